package hub_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// Any walk through a hub gives what a list of all that was ever published says.
func TestAnyWalkEqualsTheNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hub.New(store.NewMemory(), store.History{})
		w := &walker{hub: h, tail: 1}
		t.Repeat(map[string]func(*rapid.T){
			"publish": w.publish,
			"trim":    w.trim,
			"follow":  w.follow,
			"resume":  w.resume,
			"read":    w.read,
			"skip":    w.skip,
			"close":   w.close,
			"":        w.check,
		})
		for _, c := range w.cursors {
			c.Close()
		}
		if readers := h.Readers(); len(readers) > 0 {
			t.Fatalf("cursors were left open: %v", readers)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

type walker struct {
	hub     *hub.Hub
	log     []*store.Entry // all that was ever published
	tail    uint64
	kept    int // the history's bound; zero: none
	cursors []*reader
}

// reader is a cursor and what is known of it.
type reader struct {
	*hub.Cursor
	topics []string
	pos    uint64
	// exact tells that the cursor knows all before pos to be read and was told
	// of all since: it must not take another topic's loss for its own.
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
	case err != nil || dup != wantDup || dup && e != before:
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

func (w *walker) applyBound() {
	if held := int(w.head()+1) - int(w.tail); w.kept > 0 && held > w.kept {
		w.tail = w.head() + 1 - uint64(w.kept)
	}
}

func (w *walker) trim(t *rapid.T) {
	w.kept = rapid.IntRange(0, 12).Draw(t, "kept")
	w.hub.SetHistory(store.History{MaxEvents: w.kept})
	w.applyBound()
}

func (w *walker) follow(t *rapid.T) {
	topics := drawTopics(t)
	w.cursors = append(w.cursors, &reader{w.hub.Follow(topics), topics, w.head(), true})
}

func (w *walker) resume(t *rapid.T) {
	topics := drawTopics(t)
	seq := rapid.Uint64Range(0, w.head()+1).Draw(t, "position")
	id := w.hub.Position(seq)
	if seq > 0 && seq <= w.head() {
		id = w.log[seq-1].ID
	}
	wantKnown := seq <= w.head() && seq+1 >= w.tail
	if seq > 0 && seq <= w.head() && w.log[seq-1].Given { // such an id goes with its event
		last := slices.IndexFunc(w.log[w.tail-1:], func(e *store.Entry) bool { return e.ID == id })
		wantKnown = last >= 0
		seq = w.tail + uint64(last)
	}
	got, known := w.hub.Resolve(id)
	if known != wantKnown || known && got != seq {
		t.Fatalf("%q is %d, %v, want %d, %v", id, got, known, seq, wantKnown)
	}
	if known {
		w.cursors = append(w.cursors, &reader{w.hub.FollowAfter(topics, seq), topics, seq, false})
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
	case len(got) > len(want) || !slices.Equal(got, want[:len(got)]) || len(got) == 0 && len(want) > 0:
		t.Fatalf("after %d: %q, want %q", r.pos, dataOf(got), dataOf(want))
	case r.Drained() && len(got) < len(want):
		t.Fatalf("after %d: drained, and %d are left", r.pos, len(want)-len(got))
	}
	r.exact = r.Drained()
	r.pos = w.head()
	if !r.Drained() {
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

// check sees to it that whoever has something to read has been told.
func (w *walker) check(t *rapid.T) {
	for _, r := range w.cursors {
		if len(r.unread(w.log)) > 0 && r.Drained() && len(r.Ready()) == 0 {
			t.Fatalf("a reader at %d was not woken", r.pos)
		}
	}
}
