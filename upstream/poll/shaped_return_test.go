package poll_test

import (
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// Caddy may reject a configuration after it was started and has had viewers.
func TestRejectedConfigurationLosesNoEventOfAProgram(t *testing.T) {
	for name, leave := range map[string]bool{"while its viewers stay": false, "when they have left": true} {
		within(t, jqPoll(growing), func(e *env) {
			e.set(document("[1,2]"))
			v := e.subscribe(newRequest("/doc"))
			rejected := e.successor(jqPoll(growing))
			rejected.set(document("[1,2,3]"))
			moves := rejected.subscribe(newRequest("/doc"))
			if leave {
				moves.leave()
			}
			rejected.Retire()
			advance(10 * time.Millisecond)
			e.set(document("[1,2,3,4]"))
			back := e.resume(newRequest("/doc"), v.lastID())
			e.set(document("[1,2,3,4,5]"))
			advance(5 * time.Second)
			if got := append(v.all(), back.all()...); !slices.Equal(got, []string{"item 1", "item 2", "item 3", "item 4", "item 5"}) || back.hasMoved() {
				e.t.Errorf("%s: got %q (moved: %t)", name, got, back.hasMoved())
			}
			if !leave && !moves.hasMoved() {
				e.t.Error("a viewer stays with the rejected configuration")
			}
			rejected.over()
		})
	}
}

func TestViewerThatComesBackBeforeNextConfigurationIsRejectedStays(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1,2]"))
		v := e.subscribe(newRequest("/doc"))
		rejected := e.successor(jqPoll(growing))
		rejected.set(document("[1,2]"))
		rejected.subscribe(newRequest("/doc"))
		back := e.resume(newRequest("/doc"), v.lastID())
		rejected.Retire()
		e.set(document("[1,2,3]"))
		advance(5 * time.Second)
		if back.wantAll(e.t, reset, "item 1", "item 2", "item 3"); back.hasMoved() {
			e.t.Error("the viewer moves again and again")
		}
		rejected.over()
	})
}

func TestViewerOfReplacedConfigurationMovesWithoutReset(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1,2]"))
		v := e.subscribe(newRequest("/doc"))
		now := e.successor(jqPoll(growing))
		now.set(document("[1,2]"))
		now.subscribe(newRequest("/doc"))
		e.Retire()
		advance(time.Second)
		late := e.resume(newRequest("/doc"), v.lastID())
		if late.wantAll(e.t); !late.hasMoved() {
			e.t.Error("it stays with the replaced configuration")
		}
		now.over()
	})
}

// The change makes no event, so that the positions stay the same.
func TestClientCutAmongFirstEventsIsResetIfTheyAreOthersNow(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1,2]"))
		e.subscribe(newRequest("/doc"))
		e.set(document("[1,2,3]"))
		advance(2 * time.Second)
		late := e.subscribe(newRequest("/doc"))
		late.wantAll(e.t, "item 1", "item 2", "item 3")
		e.set(document("[2,3]"))
		advance(2 * time.Second)
		e.resume(newRequest("/doc"), late.idOf(0)).wantAll(e.t, reset, "item 2", "item 3")
		e.resume(newRequest("/doc"), late.idOf(2)).wantAll(e.t)
		e.set(document("[1,2]"))
		advance(2 * time.Second)
		e.resume(newRequest("/doc"), late.idOf(0)).wantAll(e.t, "item 2")
	})
}

func TestProgramsEndIsKnownToTheNextView(t *testing.T) {
	for name, program := range map[string]string{
		"from the document":       `select(.new.status == "shipped") | {event: "complete", data: {by: "program"}}`,
		"only from a change":      `select(.old.status == "open" and .new.status == "shipped") | {event: "complete", data: {by: "program"}}`,
		"with data of the change": `select(.new.status == "shipped") | {event: "complete", data: {was: .old.status}}`,
	} {
		for _, first := range []string{"program", "nothing", "document"} {
			c := jqPoll(program)
			c.First = first
			within(t, c, func(e *env) {
				e.set(document(`{"status":"open"}`))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(`{"status":"shipped"}`))
				advance(2 * time.Second)
				end := last(v.all())
				if !v.hasEnded() || !e.isFinished("/doc", v.lastID()) {
					e.t.Errorf("%s, first %s: the client is not told to stay away after %q", name, first, v.all())
				}
				late := e.subscribe(newRequest("/doc"))
				if got := last(late.all()); got != end || !late.hasEnded() || !e.isFinished("/doc", late.lastID()) {
					e.t.Errorf("%s, first %s: a late viewer gets %q, want %q", name, first, got, end)
				}
				e.set(document(`{"status":"open","again":true}`))
				if e.isFinished("/doc", v.lastID()) {
					e.t.Error("another document is finished, too")
				}
				now := e.successor(jqPoll("{data: .new}"))
				now.set(document(`{"status":"shipped"}`))
				if now.isFinished("/doc", v.lastID()) {
					e.t.Error("it is finished for another program, too")
				}
				now.over()
			})
		}
	}
}

func TestCaughtUpClientGetsNothingWhenOtherTopicsFillTheHistory(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		fill := func() {
			for range 5 {
				_, _, _ = e.hub.Publish([]string{"elsewhere"}, event.Event{Data: []byte("x")})
			}
		}
		e.hub.SetHistory(store.History{MaxEvents: 3})
		e.set(document("[1]"))
		v := e.subscribe(newRequest("/doc"))
		e.set(document("[1,2]"))
		advance(2 * time.Second)
		fill()
		back := e.resume(newRequest("/doc"), v.lastID())
		back.wantAll(e.t)
		e.set(document("[1,2,3]"))
		advance(2 * time.Second)
		back.wantAll(e.t, "item 3")
		old := v.idOf(1)
		e.set(status(503))
		advance(2 * time.Second)
		fill()
		e.resume(newRequest("/doc"), back.idOf(0)).want(e.t, "stale")
		e.set(document("[1,2,3]"))
		advance(20 * time.Second)
		want := v.all()
		if last(want) != "fresh {}" {
			e.t.Fatalf("%q", want)
		}
		fill()
		e.resume(newRequest("/doc"), v.lastID()).wantAll(e.t)
		e.resume(newRequest("/doc"), old).wantAll(e.t, reset, "item 1", "item 2", "item 3")
	})
}

// The job ends twice with the same document, and no event tells of the changes.
func TestOpenViewersGetCompleteWhenJobEndsAgain(t *testing.T) {
	for _, first := range []string{"program", "nothing"} {
		c := poll.Config{Send: "jq", SendArgument: `.new.items[]? | {data: .}`, First: first, Until: `.state == "done"`, Linger: caddy.Duration(-1)}
		within(t, c, func(e *env) {
			for range 3 {
				e.set(document(`{"state":"running"}`))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(`{"state":"done"}`))
				advance(2 * time.Second)
				if v.wantAll(e.t, "complete {}"); !v.hasEnded() || !e.isFinished("/doc", v.lastID()) {
					e.t.Error("the stream goes on")
				}
			}
		})
	}
}
