package hub_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// The hub behaves like a model, a list of all published events, under any
// sequence of actions.
func TestAnyWalkMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &walker{hub: hub.New(store.NewMemory(), store.History{}), tail: 1}
		t.Repeat(w.actions())
		w.end(t)
	})
}

// The same holds with a file store whose process restarts or crashes at any
// moment.
func TestAnyWalkWithRestartsMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, crashes := t.TempDir(), 0
		path := func() string { return filepath.Join(dir, fmt.Sprint(crashes, ".db")) }
		w := &walker{tail: 1}
		w.start(rt, path())
		actions := w.actions()
		actions["restart"] = func(rt *rapid.T) {
			w.end(rt)
			w.start(rt, path())
		}
		actions["crash"] = func(rt *rapid.T) { // the next start finds the file as it is now
			content, err := os.ReadFile(path())
			w.end(rt)
			crashes++
			if err = errors.Join(err, os.WriteFile(path(), content, 0o600)); err != nil {
				rt.Fatal(err)
			}
			w.start(rt, path())
		}
		rt.Repeat(actions)
		w.end(rt)
	})
}

// start opens the log in a file. After a crash the file may still hold events
// that had left the log, within the bound.
func (w *walker) start(t *rapid.T, path string) {
	f, err := store.OpenFile(path, store.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.hub, w.cursors = hub.New(f, store.History{}), nil
	w.hub.SetHistory(store.History{MaxEvents: w.maxEvents})
	tail, head := f.Range()
	if head != w.head() || tail > w.tail {
		t.Fatalf("the log was %d to %d, and is %d to %d", w.tail, w.head(), tail, head)
	}
	w.tail = tail
}

func (w *walker) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"publish":    w.publish,
		"publishAll": w.publishAll,
		"trim":       w.trim,
		"subscribe":  w.subscribe,
		"resume":     w.resume,
		"read":       w.read,
		"skip":       w.skip,
		"close":      w.close,
		"":           w.check,
	}
}

// end closes the cursors and the hub, and checks that no cursor is left open.
func (w *walker) end(t *rapid.T) {
	for _, c := range w.cursors {
		c.Close()
	}
	if open := w.hub.SubscribersByTopic(); len(open) > 0 {
		t.Fatalf("cursors were left open: %v", open)
	}
	if err := w.hub.Close(); err != nil {
		t.Fatal(err)
	}
}

type walker struct {
	hub       *hub.Hub
	log       []*store.Entry // all that was ever published
	tail      uint64
	maxEvents int // the bound of the history; zero means none
	cursors   []*reader

	records []known // the oldest first
}

// known is an idempotency record that the log must hold.
type known struct {
	key hub.IdempotencyKey
	ids []string
}

// maxKnown is how many records a scope holds.
const maxKnown = 3

// reader is a cursor and the model's state of it.
type reader struct {
	*hub.Cursor
	topics []string
	pos    uint64
	// exact means that the cursor's last read reached the head, so that it must
	// not return ErrLost for events of other topics.
	exact bool
}

func (r *reader) unread(log []*store.Entry) []*store.Entry {
	var unread []*store.Entry
	for _, e := range log[r.pos:] {
		if slices.ContainsFunc(r.topics, e.On) {
			unread = append(unread, e)
		}
	}
	return unread
}

func drawTopics(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID[string]).Draw(t, "topics")
}

func (w *walker) head() uint64 { return uint64(len(w.log)) }

func (w *walker) publish(t *rapid.T) {
	topics := drawTopics(t)
	id := rapid.SampledFrom([]string{"", "", "d1", "d2", "d3"}).Draw(t, "id")
	var before *store.Entry
	for _, e := range w.log[w.tail-1:] {
		if id != "" && e.ID == id {
			before = e
		}
	}
	e, dup, err := w.hub.Publish(topics, event.Event{ID: id, Data: []byte("x")})
	slices.Sort(topics)
	wantDup := before != nil && slices.Equal(before.Topics, topics)
	switch {
	case err != nil || dup != wantDup || dup && e.Seq != before.Seq:
		t.Fatalf("%q on %q: %+v, %v, %v, with %+v before", id, topics, e, dup, err, before)
	case dup:
		return
	case e.Seq != w.head()+1 || !slices.Equal(e.Topics, topics):
		t.Fatalf("%+v on %q after %d", e, topics, w.head())
	case id != "" && before == nil && e.ID != id, before != nil && e.ID != w.hub.Position(e.Seq):
		t.Fatalf("%q came to %q, with %+v before", id, e.ID, before)
	}
	w.log = append(w.log, e)
	w.applyBound()
}

// publishAll publishes up to three events under a key.
func (w *walker) publishAll(t *rapid.T) {
	r := hub.IdempotencyKey{
		Scope:  rapid.SampledFrom([]string{"s", "t"}).Draw(t, "scope"),
		ID:     rapid.SampledFrom([]string{"1", "2", "3", "4", "5"}).Draw(t, "key"),
		Window: store.Window{MaxCount: maxKnown},
	}
	var messages []hub.Message
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		id := rapid.SampledFrom([]string{"", "d1", "d2", "d3"}).Draw(t, "id")
		messages = append(messages, hub.Message{Topics: drawTopics(t), Event: event.Event{ID: id, Data: []byte("x")}})
	}
	got, err := w.hub.PublishAll(messages, r)
	before := slices.IndexFunc(w.records, func(k known) bool { return k.key == r })
	if err != nil || got.Duplicate != (before >= 0) {
		t.Fatalf("%+v: %+v, %v, with %d before", r, got, err, before)
	}
	if before >= 0 {
		if !slices.Equal(got.IDs, w.records[before].ids) {
			t.Fatalf("%+v: %q, and the first time %q", r, got.IDs, w.records[before].ids)
		}
		return
	}
	w.appendToModel(t, messages, got.IDs)
	w.remember(known{r, got.IDs})
}

// appendToModel adds the published messages to the model and checks their ids.
func (w *walker) appendToModel(t *rapid.T, messages []hub.Message, ids []string) {
	if len(ids) != len(messages) {
		t.Fatalf("%q for %d events", ids, len(messages))
	}
	for i, m := range messages {
		seq := w.head() + 1
		held := w.log[w.tail-1:]
		free := !slices.ContainsFunc(held, func(e *store.Entry) bool { return e.ID == m.Event.ID })
		want := w.hub.Position(seq)
		if m.Event.ID != "" && free {
			want = m.Event.ID
		}
		if ids[i] != want {
			t.Fatalf("%q came to %q at %d, want %q", m.Event.ID, ids[i], seq, want)
		}
		w.log = append(w.log, &store.Entry{Seq: seq, Topics: slices.Sorted(slices.Values(m.Topics)), ID: want, Given: want == m.Event.ID})
	}
	w.applyBound()
}

func (w *walker) remember(k known) {
	w.records = append(w.records, k)
	of := func(o known) bool { return o.key.Scope == k.key.Scope }
	var held int
	for _, o := range w.records {
		if of(o) {
			held++
		}
	}
	if held > maxKnown {
		oldest := slices.IndexFunc(w.records, of)
		w.records = slices.Delete(w.records, oldest, oldest+1)
	}
}

func seqsOf(entries []*store.Entry) (seqs []uint64) {
	for _, e := range entries {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func (w *walker) applyBound() {
	if held := int(w.head()+1) - int(w.tail); w.maxEvents > 0 && held > w.maxEvents {
		w.tail = w.head() + 1 - uint64(w.maxEvents)
	}
}

func (w *walker) trim(t *rapid.T) {
	w.maxEvents = rapid.IntRange(0, 12).Draw(t, "max events")
	w.hub.SetHistory(store.History{MaxEvents: w.maxEvents})
	w.applyBound()
}

func (w *walker) subscribe(t *rapid.T) {
	topics := drawTopics(t)
	w.cursors = append(w.cursors, &reader{w.hub.Subscribe(topics), topics, w.head(), true})
}

func (w *walker) resume(t *rapid.T) {
	topics := drawTopics(t)
	seq := rapid.Uint64Range(0, w.head()+1).Draw(t, "position")
	id := w.hub.Position(seq)
	if seq > 0 && seq <= w.head() {
		id = w.log[seq-1].ID
	}
	wantKnown := seq <= w.head() && seq+1 >= w.tail
	if seq > 0 && seq <= w.head() && w.log[seq-1].Given { // the log forgets the id with its event
		wantKnown = false
		for _, e := range w.log[w.tail-1:] {
			if e.ID == id && slices.ContainsFunc(topics, e.On) {
				seq, wantKnown = e.Seq, true
			}
		}
	}
	got, known := w.hub.Resolve(id, topics)
	if known != wantKnown || known && got != seq {
		t.Fatalf("%q is %d, %v, want %d, %v", id, got, known, seq, wantKnown)
	}
	if known {
		w.cursors = append(w.cursors, &reader{w.hub.SubscribeAfter(topics, seq), topics, seq, false})
	}
}

func (w *walker) draw(t *rapid.T) int {
	if len(w.cursors) == 0 {
		t.Skip("no cursor is open")
	}
	return rapid.IntRange(0, len(w.cursors)-1).Draw(t, "cursor")
}

func (w *walker) read(t *rapid.T) {
	i := w.draw(t)
	r := w.cursors[i]
	want := r.unread(w.log)
	lost := len(want) > 0 && want[0].Seq < w.tail
	mayBeLost := lost || !r.exact && r.pos+1 < w.tail
	got, err := r.Next(rapid.IntRange(0, 100).Draw(t, "maxBytes"), nil)
	if errors.Is(err, hub.ErrLost) && mayBeLost {
		r.Close()
		w.cursors = slices.Delete(w.cursors, i, i+1)
		return
	}
	switch {
	case err != nil || lost:
		t.Fatalf("after %d of %d to %d: %v, lost: %v", r.pos, w.tail, w.head(), err, lost)
	case len(got) > len(want) || !slices.Equal(seqsOf(got), seqsOf(want[:len(got)])) || len(got) == 0 && len(want) > 0:
		t.Fatalf("after %d: %q, want %q", r.pos, dataOf(got), dataOf(want))
	case r.CaughtUp() && len(got) < len(want):
		t.Fatalf("after %d: caught up with %d events unread", r.pos, len(want)-len(got))
	}
	r.exact = r.CaughtUp()
	r.pos = w.head()
	if !r.CaughtUp() {
		r.pos = got[len(got)-1].Seq
	}
	if r.Position() != w.hub.Position(r.pos) {
		t.Fatalf("the cursor is at %s, want %d", r.Position(), r.pos)
	}
}

func (w *walker) skip(t *rapid.T) {
	r := w.cursors[w.draw(t)]
	to := rapid.Uint64Range(0, w.head()).Draw(t, "to")
	r.Skip(to)
	if to > r.pos {
		r.pos, r.exact = to, false
	}
}

func (w *walker) close(t *rapid.T) {
	i := w.draw(t)
	w.cursors[i].Close()
	w.cursors = slices.Delete(w.cursors, i, i+1)
}

// check checks that each cursor with unread events has been woken.
func (w *walker) check(t *rapid.T) {
	for _, r := range w.cursors {
		if len(r.unread(w.log)) > 0 && r.CaughtUp() && len(r.Ready()) == 0 {
			t.Fatalf("a cursor at %d was not woken", r.pos)
		}
	}
}
