package poll_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

const (
	open    = `{"note":"a long one, so that patches are shorter","status":"open"}`
	packed  = `{"note":"a long one, so that patches are shorter","status":"packed"}`
	shipped = `{"note":"a long one, so that patches are shorter","status":"shipped"}`
)

// untilShipped runs a test for each mode of send. The backend's document is open.
func untilShipped(t *testing.T, test func(t testing.TB, e *env, send string)) {
	for _, send := range []string{"full", "patch", "merge"} {
		c := poll.Config{Until: `.status == "shipped"`, Send: send}
		t.Run(send, func(t *testing.T) {
			within(t, c, func(e *env) {
				e.set(document(open))
				test(e.t, e, send)
			})
		})
	}
}

// isFinished reports whether a client that reconnects gets 204.
func (e *env) isFinished(path, lastEventID string) bool {
	e.t.Helper()
	viewing, refused, err := e.Subscribe(newRequest(path), &caller{backend: e.backend})
	if err != nil || refused != nil {
		e.t.Fatal(refused, err)
	}
	defer viewing.Close()
	return viewing.Finished(lastEventID)
}

// copies returns the documents that a client makes of the events, and the names
// of other events.
func (v *viewer) copies(t testing.TB) (got []string) {
	c := copyOf{}
	for _, e := range v.events() {
		switch {
		case c.apply(e) != nil:
			t.Errorf("%s %s can't be applied to %s", e.Name, e.Data, c.doc)
		case e.Name == "" || e.Name == "patch" || e.Name == "merge":
			got = append(got, string(c.doc))
		default:
			got = append(got, e.Name)
		}
	}
	return got
}

func (v *viewer) wantCopies(t testing.TB, want ...string) {
	t.Helper()
	if got := v.copies(t); !slices.Equal(got, want) {
		t.Errorf("the viewer had %q, want %q", got, want)
	}
}

func TestCompleteDocumentEndsStreams(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		a, b := e.subscribe(newRequest("/doc")), e.subscribe(newRequest("/doc"))
		e.set(document(packed))
		advance(2 * time.Second)
		e.set(document(shipped))
		advance(2 * time.Second)
		for _, v := range []*viewer{a, b} {
			v.wantCopies(t, open, packed, shipped, "complete")
			if !v.hasEnded() {
				t.Error("the stream goes on")
			}
		}
		if last := a.events()[3]; string(last.Data) != "{}" || last.ID == "" {
			t.Errorf("%+v", last)
		}
		polls := e.polls()
		advance(time.Minute)
		if e.Views() != 0 || e.polls() != polls {
			t.Errorf("%d views are left, %d polls more", e.Views(), e.polls()-polls)
		}
	})
}

func TestReconnectAfterCompleteGets204(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		other := e.subscribe(newRequest("/other"))
		v := e.subscribe(newRequest("/doc"))
		first := v.lastID()
		e.set(document(shipped))
		advance(2 * time.Second)
		if !e.isFinished("/doc", v.lastID()) {
			t.Error("the viewer of the complete document gets no 204")
		}
		late := e.subscribe(newRequest("/doc"))
		late.wantCopies(t, shipped, "complete")
		for _, id := range []string{v.lastID(), late.lastID()} {
			if !e.isFinished("/doc", id) {
				t.Errorf("%s is not finished", id)
			}
		}
		for name, id := range map[string]string{
			"a newcomer": "", "a viewer of the open document": first, "a viewer without complete": v.entries[len(v.entries)-2].ID,
			"another's": other.lastID(), "a stranger": "garbage", "the future": e.hub.Position(1 << 40), "the past": e.hub.Position(0),
		} {
			if e.isFinished("/doc", id) {
				t.Errorf("%s is told to stay away", name)
			}
		}
		if e.isFinished("/another", v.lastID()) {
			t.Error("the end of one document is taken for that of another")
		}
	})
}

func TestNewViewerGetsCompleteDocumentAndItsEnd(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		e.set(document(shipped))
		for range 3 {
			v := e.subscribe(newRequest("/doc"))
			v.wantCopies(t, shipped, "complete")
			if !v.hasEnded() || e.Views() != 0 {
				t.Errorf("ended: %v, %d views", v.hasEnded(), e.Views())
			}
		}
	})
}

func TestCompleteDocumentIsPublishedOnce(t *testing.T) {
	within(t, poll.Config{Until: `.status == "shipped"`}, func(e *env) {
		e.set(document(shipped))
		first := e.subscribe(newRequest("/doc"))
		for range 10 {
			e.subscribe(newRequest("/doc")).wantCopies(t, shipped, "complete")
			e.resume(newRequest("/doc"), first.events()[0].ID).wantCopies(t, "complete")
		}
		if seq, _ := e.hub.Resolve(first.lastID(), nil); e.hub.Entry(seq+1) != nil {
			t.Error("each that comes back adds to the history")
		}
	})
}

func TestCompleteDocumentIsCorrectOnBusyHub(t *testing.T) {
	s := &flakyStore{Memory: store.NewMemory()}
	withinStore(t, poll.Config{Until: `.status == "shipped"`}, s, func(e *env) {
		e.set(document(shipped))
		other := func() { e.publishElsewhere(1) }
		s.afterAppend = func() { // between the document and its end
			s.afterAppend = nil
			go other()
		}
		v := e.subscribe(newRequest("/doc"))
		v.wantCopies(t, shipped, "complete")
		if !e.isFinished("/doc", v.lastID()) {
			t.Error("it is not finished")
		}
		e.subscribe(newRequest("/doc")).wantCopies(t, shipped, "complete")
		back := e.resume(newRequest("/doc"), v.events()[0].ID).copies(t)
		if back[len(back)-1] != "complete" {
			t.Errorf("%q", back)
		}
	})
}

func (e *env) publishElsewhere(n int) {
	for range n {
		if _, _, err := e.hub.Publish([]string{"elsewhere"}, event.Event{Data: []byte("x")}); err != nil {
			e.t.Error(err)
		}
	}
}

func TestReconnectingViewerGetsMissedComplete(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, send string) {
		v := e.subscribe(newRequest("/doc"))
		id := v.lastID()
		e.set(document(shipped))
		advance(2 * time.Second)
		back := e.resume(newRequest("/doc"), id)
		got := back.copies(t)
		if !slices.Equal(got, []string{shipped, "complete"}) || !back.hasEnded() {
			t.Errorf("%q, ended: %v", got, back.hasEnded())
		}
		after := e.resume(newRequest("/doc"), v.entries[len(v.entries)-2].ID)
		want := []string{"complete"}
		if send != "full" {
			want = []string{shipped, "complete"} // another view's patches: nobody knows what they were for
		}
		after.wantCopies(t, want...)
	})
}

func TestCompleteIsSentWithoutHistory(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		v := e.subscribe(newRequest("/doc"))
		first := v.lastID()
		e.set(document(shipped))
		advance(2 * time.Second)
		e.hub.SetHistory(store.History{MaxEvents: 1})
		e.publishElsewhere(3)
		for _, id := range []string{first, v.lastID(), "garbage"} {
			e.resume(newRequest("/doc"), id).wantCopies(t, "reset", shipped, "complete")
		}
		e.subscribe(newRequest("/doc")).wantCopies(t, shipped, "complete")
		e.hub.SetHistory(store.History{MaxEvents: 100})
		back := e.resume(newRequest("/doc"), first)
		if !e.isFinished("/doc", back.lastID()) {
			t.Error("the viewer of the second complete gets no 204")
		}
	})
}

func TestReopenedDocumentIsPolledAgain(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		v := e.subscribe(newRequest("/doc"))
		e.set(document(shipped))
		advance(2 * time.Second)
		first := v.lastID()
		e.set(document(packed))
		if e.isFinished("/doc", first) {
			t.Error("the viewer gets 204 though the document is open again")
		}
		back := e.resume(newRequest("/doc"), first)
		back.wantCopies(t, packed)
		advance(10 * time.Second)
		if back.hasEnded() {
			t.Error("the stream has ended")
		}
		e.set(document(shipped))
		advance(2 * time.Second)
		back.wantCopies(t, packed, shipped, "complete")
		if !back.hasEnded() || !e.isFinished("/doc", back.lastID()) {
			t.Error("it does not end again")
		}
	})
}

// A viewer that got complete has the document as it was then.
func TestViewerOfEarlierEndGetsLaterCompleteDocument(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		v := e.subscribe(newRequest("/doc"))
		e.set(document(shipped))
		advance(2 * time.Second)
		early := v.lastID()
		const returned = `{"status":"shipped","note":"sent back, and shipped again"}`
		e.set(document(packed))
		again := e.subscribe(newRequest("/doc"))
		e.set(document(returned))
		advance(2 * time.Second)
		if !again.hasEnded() || !e.isFinished("/doc", again.lastID()) {
			t.Fatal("it has not ended again")
		}
		if e.isFinished("/doc", early) {
			t.Error("the viewer of the first complete document never gets the second")
		}
		got := e.resume(newRequest("/doc"), early).copies(t)
		if n := len(got); n < 2 || got[n-2] != returned || got[n-1] != "complete" {
			t.Errorf("%q", got)
		}
	})
}

func TestReopenedDocumentSendsNoMissedComplete(t *testing.T) {
	untilShipped(t, func(t testing.TB, e *env, _ string) {
		v := e.subscribe(newRequest("/doc"))
		id := v.lastID()
		e.set(document(shipped))
		advance(2 * time.Second)
		e.set(document(packed))
		back := e.resume(newRequest("/doc"), id)
		if got := back.copies(t); got[len(got)-1] != packed || slices.Contains(got, "complete") {
			t.Errorf("%q", got)
		}
	})
	within(t, poll.Config{Until: ".done", Select: ".n"}, func(e *env) {
		e.set(document(`{"n":1,"done":true}`))
		v := e.subscribe(newRequest("/doc"))
		e.set(document(`{"n":1}`))
		if got := e.resume(newRequest("/doc"), v.events()[0].ID).copies(t); slices.Contains(got, "complete") {
			t.Errorf("%q, though it is open again", got)
		}
	})
}

// A part of the document outside of select may reopen it.
func TestReopenedUnchangedDocumentIsPolledAgain(t *testing.T) {
	within(t, poll.Config{Until: ".done", Select: ".n"}, func(e *env) {
		doc := func(n int, done bool) { e.set(document(fmt.Sprintf(`{"n":%d,"done":%v}`, n, done))) }
		doc(1, true)
		v := e.subscribe(newRequest("/doc"))
		v.wantCopies(t, "1", "complete")
		doc(1, false)
		if e.isFinished("/doc", v.lastID()) {
			t.Error("it is finished")
		}
		back := e.resume(newRequest("/doc"), v.lastID())
		doc(2, false)
		advance(2 * time.Second)
		got := back.copies(t)
		if n := len(got); n == 0 || got[n-1] != "2" || slices.Contains(got, "complete") || back.hasEnded() {
			t.Errorf("%q", got)
		}
		e.subscribe(newRequest("/doc")).wantCopies(t, "2")
		doc(2, true) // the same, but for what select leaves out
		advance(2 * time.Second)
		if got := back.copies(t); got[len(got)-1] != "complete" || !back.hasEnded() {
			t.Errorf("%q", got)
		}
	})
}

func TestUntilErrorMakesDocumentStale(t *testing.T) {
	within(t, poll.Config{Until: ".status.code > 1"}, func(e *env) {
		e.set(document(`{"status":{"code":1}}`))
		v := e.subscribe(newRequest("/doc"))
		e.set(document("<html>"))
		advance(10 * time.Second)
		e.set(document(`{"status":5}`)) // .status.code of a number fails
		advance(10 * time.Second)
		v.want(t, `{"status":{"code":1}}`, "stale")
		e.set(document(`{"status":{"code":2}}`))
		advance(time.Minute)
		v.want(t, `{"status":{"code":1}}`, "stale", `{"status":{"code":2}}`, "complete")
	})
}

func TestUntilIgnoresFalseNullAndEmpty(t *testing.T) {
	for program, finished := range map[string]bool{
		"true": true, "0": true, `""`: true, "[]": true, "false, true": true,
		"false": false, "null": false, "empty": false, "true, false": false, ".missing": false,
	} {
		within(t, poll.Config{Until: program}, func(e *env) {
			e.set(document(open))
			if v := e.subscribe(newRequest("/doc")); v.hasEnded() != finished {
				t.Errorf("%s: ended: %v", program, v.hasEnded())
			}
		})
	}
}

func TestUnstoredCompleteIsSentLater(t *testing.T) {
	s := &flakyStore{Memory: store.NewMemory()}
	withinStore(t, poll.Config{Until: `.status == "shipped"`}, s, func(e *env) {
		e.set(document(open))
		v := e.subscribe(newRequest("/doc"))
		s.afterAppend = func() { s.broken.Store(true) } // after the document, before its end
		e.set(document(shipped))
		advance(2 * time.Second)
		s.afterAppend = nil
		s.broken.Store(false)
		advance(10 * time.Second)
		got := v.copies(t)
		if !v.hasEnded() {
			t.Fatalf("%q, and it goes on", got)
		}
		if e.isFinished("/doc", v.lastID()) != (got[len(got)-1] == "complete") {
			t.Error("who was not told is told to stay away")
		}
		got = append(got, e.resume(newRequest("/doc"), v.lastID()).copies(t)...)
		if got[len(got)-1] != "complete" {
			t.Errorf("%q", got)
		}
	})
}
