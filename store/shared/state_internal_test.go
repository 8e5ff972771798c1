package shared

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

func outcomeOf(first uint64, entries []*store.Entry) string { return fmt.Sprint(first, len(entries)) }

// writer appends blocks of a node to a log that only states read.
type writer struct {
	node   nodeID
	number uint64
	log    *[][]byte
}

// write appends a block in messages of at most 200 bytes.
func (w *writer) write(block []byte) {
	w.number++
	*w.log = append(*w.log, encodeMessages(w.node, w.number, block, 200)...)
}

// keyed returns a block with one delivery, made when base was known.
func keyed(s *state, base uint64, key string) []byte {
	r := &store.IdempotencyRecord{Scope: "s", Window: store.Window{MaxCount: 100, MaxAge: time.Hour}}
	copy(r.Key[:], key)
	event := store.ProposedEvent{Topics: []string{"a"}, ID: "id" + key, Frame: []byte("data: " + key + "\n\n")}
	p := proposals{epoch: s.epoch, base: base, chain: s.chainAt(base), at: time.Unix(1, 0), items: []*store.Proposal{{Record: r, Events: []store.ProposedEvent{event}}}}
	return p.encode()
}

// follow applies the messages that a state has not applied, and returns the last
// effect.
func follow(t *testing.T, s *state, log [][]byte) (last effect) {
	t.Helper()
	for s.applied < uint64(len(log)) {
		e, ok := s.apply(s.applied+1, log[s.applied])
		if !ok {
			t.Fatalf("message %d is unknown", s.applied)
		}
		last = e
	}
	return last
}

func begin(t *testing.T) (*state, *writer) {
	t.Helper()
	s := newState(outcomeOf)
	w := &writer{node: nodeID{1}, log: new([][]byte)}
	w.write((&newEpoch{epoch: "e1", secret: []byte("secret")}).encode())
	if !follow(t, s, *w.log).newEpoch {
		t.Fatal("no epoch has begun")
	}
	return s, w
}

func TestBlockThatKnowsTooLittleHasNoEffect(t *testing.T) {
	s, w := begin(t)
	early := s.applied
	for i := range maxWindow/2 + 1 {
		w.write(keyed(s, s.applied, fmt.Sprint("k", i)))
		follow(t, s, *w.log)
	}
	head := s.head
	w.write(keyed(s, early, "k0"))
	if e := follow(t, s, *w.log); e.decided != nil || s.head != head || s.scarred {
		t.Errorf("the block has the effect %+v", e)
	}
	w.write(keyed(s, s.applied-10, fmt.Sprint("k", maxWindow/2)))
	if e := follow(t, s, *w.log); len(e.decided) != 1 || !e.decided[0].Duplicate || e.decided[0].Outcome == "" {
		t.Errorf("a second delivery has the effect %+v", e)
	}
}

func TestStateOfCheckpointIsThatOfWholeLog(t *testing.T) {
	s, w := begin(t)
	other := &writer{node: nodeID{2}, log: w.log}
	step := func(s *state, i int) {
		base := s.applied
		w.write(keyed(s, base, fmt.Sprint("k", i)))
		other.write(keyed(s, base, fmt.Sprint("k", i))) // at the same moment
		follow(t, s, *w.log)
	}
	for i := range 20 {
		step(s, i)
	}
	before := s.applied
	w.write(s.encodeCheckpoint())
	for i := range 20 {
		step(s, 20+i)
	}
	var block []byte
	scan := make(assembler)
	for i := before; block == nil; i++ {
		m, ok := decodeMessage((*w.log)[i])
		if !ok {
			t.Fatal("a message is unknown")
		}
		block, _ = scan.add(i+1, m)
	}
	c, ok := decodeCheckpoint(block[1:])
	if !ok || c.base != before {
		t.Fatalf("the checkpoint is %+v, %v", c, ok)
	}
	restored, ok := c.restore(outcomeOf)
	if !ok {
		t.Fatal("the checkpoint can't be restored")
	}
	follow(t, restored, *w.log)
	if restored.head != s.head || restored.chainAt(s.applied) != s.chainAt(s.applied) || !reflect.DeepEqual(restored.nodes, s.nodes) {
		t.Errorf("restored: head %d, nodes %v; the whole log: head %d, nodes %v", restored.head, restored.nodes, s.head, s.nodes)
	}
	if !reflect.DeepEqual(restored.window, s.window) {
		t.Error("the windows differ")
	}
	if !reflect.DeepEqual(restored.mirror.Records(), s.mirror.Records()) {
		t.Error("the records differ")
	}
	if s.head != 40 {
		t.Errorf("%d events are in the log, want 40", s.head)
	}
}

func TestBlockThatKnowsAnotherLogScarsIt(t *testing.T) {
	s, w := begin(t)
	w.write(keyed(s, s.applied, "a"))
	lost := newState(outcomeOf)
	follow(t, lost, *w.log)
	*w.log = (*w.log)[:1] // the engine forgets
	w.write(keyed(s, s.applied, "b"))
	w.write(keyed(lost, lost.applied, "c"))
	follow(t, s, *w.log)
	if !s.scarred || s.head != 1 {
		t.Errorf("scarred: %v, head %d", s.scarred, s.head)
	}
	w.write((&newEpoch{replaces: "e1", epoch: "e2", head: 100}).encode())
	w.write((&newEpoch{replaces: "e1", epoch: "e3", head: 200}).encode()) // another node has noticed, too
	follow(t, s, *w.log)
	if s.scarred || s.epoch != "e2" || s.head != 100 {
		t.Errorf("scarred: %v, epoch %s, head %d", s.scarred, s.epoch, s.head)
	}
}

func FuzzApply(f *testing.F) {
	s := newState(outcomeOf)
	w := &writer{log: new([][]byte)}
	w.write((&newEpoch{epoch: "e1"}).encode())
	s.ready, s.epoch = true, "e1"
	w.write(keyed(s, 1, "a"))
	s.mirror = store.NewMirror("e1", nil, 0)
	w.write(s.encodeCheckpoint())
	for _, m := range *w.log {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newState(outcomeOf)
		begin := encodeMessages(nodeID{9}, 1, (&newEpoch{epoch: "e1"}).encode(), 1000)
		s.apply(1, begin[0])
		s.apply(2, data)
		if m, ok := decodeMessage(data); ok && len(m.data) > 0 {
			if c, ok := decodeCheckpoint(m.data[1:]); ok {
				c.restore(outcomeOf)
			}
		}
	})
}
