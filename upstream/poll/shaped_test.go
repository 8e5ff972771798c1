package poll_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// stock makes events of several names of one document, and none for new viewers
// who know nothing to compare it with.
const stock = `.old as $old | .new[] | . as $new | ($old // [])[] | select(.id == $new.id)
	| (select(.stock != $new.stock) | {event: "stock-change", data: {petId: .id, oldStock: .stock, newStock: $new.stock}}),
	  (select(.price != $new.price) | {event: "price-change", data: {petId: .id, oldPrice: .price, newPrice: $new.price}})`

// growing makes an event of each new item of a list, also for new viewers.
const growing = `.new[(.old // [] | length):][] | {event: "item", data: .}`

func jqPoll(program string) poll.Config { return poll.Config{Send: "jq", SendArgument: program} }

// all returns the names and the data of the received events.
func (v *viewer) all() (got []string) {
	for _, e := range v.events() {
		got = append(got, strings.TrimSpace(e.Name+" "+string(e.Data)))
	}
	return got
}

func (v *viewer) wantAll(t testing.TB, want ...string) {
	t.Helper()
	if got := v.all(); !slices.Equal(got, want) {
		t.Errorf("the viewer got %q, want %q", got, want)
	}
}

// idOf returns the id of the viewer's event at a place.
func (v *viewer) idOf(i int) string { return v.events()[i].ID }

func TestProgramMakesEventsOfOneDocumentWithDifferentNames(t *testing.T) {
	within(t, jqPoll(stock), func(e *env) {
		e.set(document(`[{"id":1,"stock":5,"price":"1.00"},{"id":2,"stock":1,"price":"2.00"}]`))
		v := e.subscribe(newRequest("/doc"))
		e.set(document(`[{"id":1,"stock":4,"price":"0.90"},{"id":2,"stock":1,"price":"2.50"}]`))
		advance(2 * time.Second)
		v.wantAll(e.t, `stock-change {"petId":1,"oldStock":5,"newStock":4}`, `price-change {"petId":1,"oldPrice":"1.00","newPrice":"0.90"}`,
			`price-change {"petId":2,"oldPrice":"2.00","newPrice":"2.50"}`)
		e.subscribe(newRequest("/doc")).wantAll(e.t)
	})
}

func TestNewViewersGetWhatFirstSays(t *testing.T) {
	program := `{event: (if .old then "changed-to" else "begins-with" end), data: .new}`
	for first, want := range map[string][2][]string{
		"":         {{"begins-with 1", "changed-to 2"}, {"begins-with 2"}},
		"program":  {{"begins-with 1", "changed-to 2"}, {"begins-with 2"}},
		"nothing":  {{"changed-to 2"}, nil},
		"document": {{"1", "changed-to 2"}, {"2"}},
	} {
		c := jqPoll(program)
		c.First = first
		within(t, c, func(e *env) {
			early := e.subscribe(newRequest("/doc"))
			e.set(document("2"))
			advance(2 * time.Second)
			early.wantAll(e.t, want[0]...)
			e.subscribe(newRequest("/doc")).wantAll(e.t, want[1]...)
		})
	}
}

func TestClientGetsWhatItMissedOfProgram(t *testing.T) {
	for first, seen := range map[string][]string{"program": {"item 1", "item 2"}, "nothing": nil} {
		c := jqPoll(growing)
		c.First = first
		within(t, c, func(e *env) {
			e.set(document("[1,2]"))
			v := e.subscribe(newRequest("/doc"))
			v.wantAll(e.t, seen...)
			position := v.lastID() // without an event, a position alone
			v.leave()
			_, _, _ = e.hub.Publish([]string{"elsewhere"}, event.Event{Data: []byte("x")})
			e.set(document("[1,2,3]"))
			advance(2 * time.Second)
			e.set(document("[1,2,3,4]"))
			back := e.resume(newRequest("/doc"), position)
			advance(2 * time.Second)
			back.wantAll(e.t, "item 3", "item 4")
			late := e.subscribe(newRequest("/doc"))
			for _, at := range []string{back.lastID(), late.lastID()} {
				e.resume(newRequest("/doc"), at).wantAll(e.t)
			}
			e.set(document("[1,2,3,4,5]"))
			advance(2 * time.Second)
			e.resume(newRequest("/doc"), back.lastID()).wantAll(e.t)
		})
	}
}

func TestClientThatIsCutAmongTheFirstEventsGetsTheRest(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1,2,3]"))
		first := e.subscribe(newRequest("/doc"))
		e.resume(newRequest("/doc"), first.idOf(0)).wantAll(e.t, "item 2", "item 3")
		e.set(document("[1,2,3,4]"))
		advance(2 * time.Second)
		e.resume(newRequest("/doc"), first.idOf(0)).wantAll(e.t, "item 2", "item 3", "item 4")
		late := e.subscribe(newRequest("/doc"))
		late.wantAll(e.t, "item 1", "item 2", "item 3", "item 4")
		back := e.resume(newRequest("/doc"), late.idOf(1))
		back.wantAll(e.t, "item 3", "item 4")
		e.set(document("[1,2,3,4,5]"))
		advance(2 * time.Second)
		back.wantAll(e.t, "item 3", "item 4", "item 5")
		e.resume(newRequest("/doc"), late.idOf(3)).wantAll(e.t, "item 5")
		// The events after it are not in the log any more.
		e.resume(newRequest("/doc"), late.idOf(1)).wantAll(e.t, reset, "item 1", "item 2", "item 3", "item 4", "item 5")
	})
}

const reset = `reset {"reason":"the position is not in the history"}`

func TestPositionOfAnotherShapedViewIsReset(t *testing.T) {
	c := jqPoll(growing)
	c.First = "nothing"
	within(t, c, func(e *env) {
		e.set(document("[1,2]"))
		one, other := e.subscribe(newRequest("/one")), e.subscribe(newRequest("/other"))
		e.resume(newRequest("/one"), other.lastID()).wantAll(e.t, reset)
		e.resume(newRequest("/one"), one.lastID()).wantAll(e.t)
		e.resume(newRequest("/one"), e.hub.Position(0)).wantAll(e.t, reset)
		one.leave()
	})
}

func TestUntilThatYieldsAnObjectIsTheDataOfComplete(t *testing.T) {
	for until, want := range map[string]string{
		`select(.status == "shipped") | {status, trackingNumber: .tracking}`: `complete {"status":"shipped","trackingNumber":"T1"}`,
		`.status == "shipped"`:                     "complete {}",
		`select(.status == "shipped") | .tracking`: "complete {}",
	} {
		for _, send := range []string{"full", "patch"} {
			within(t, poll.Config{Send: send, Select: ".status", Until: until}, func(e *env) {
				e.set(document(`{"status":"open"}`))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(`{"status":"shipped","tracking":"T1"}`))
				advance(2 * time.Second)
				v.wantAll(e.t, `"open"`, `"shipped"`, want)
				if !e.isFinished("/doc", v.lastID()) {
					e.t.Error("the client is not told to stay away")
				}
				late := e.subscribe(newRequest("/doc"))
				late.wantAll(e.t, `"shipped"`, want)
				if !late.hasEnded() || !e.isFinished("/doc", late.lastID()) {
					e.t.Error("the late viewer's stream goes on")
				}
			})
		}
	}
}

// Of the end's data, select shows nothing.
func TestOtherDataOfCompleteIsAnotherEnd(t *testing.T) {
	within(t, poll.Config{Select: ".status", Until: `{tracking}`, Linger: -1}, func(e *env) {
		e.set(document(`{"status":"shipped","tracking":"T1"}`))
		v := e.subscribe(newRequest("/doc"))
		e.set(document(`{"status":"shipped","tracking":"T2"}`))
		advance(time.Second)
		e.resume(newRequest("/doc"), v.lastID()).wantAll(e.t, `"shipped"`, `complete {"tracking":"T2"}`)
	})
}

func TestExactlyOneCompleteIsSent(t *testing.T) {
	step := `(.new | select(.status != "shipped") | {data: .status})`
	own := `, (.new | select(.status == "shipped") | {event: "complete", data: {by: "program"}}, {event: "complete", data: 2}, {data: "never"})`
	for name, c := range map[string]struct{ program, until, want string }{
		"until's object":              {step, `select(.status == "shipped") | {by: "until"}`, `complete {"by":"until"}`},
		"until's object, and another": {step + own, `select(.status == "shipped") | {by: "until"}`, `complete {"by":"until"}`},
		"the program's":               {step + own, "", `complete {"by":"program"}`},
		"the program's, until true":   {step + own, `.status == "shipped"`, `complete {"by":"program"}`},
		"until true":                  {step, `.status == "shipped"`, `complete {}`},
	} {
		t.Run(name, func(t *testing.T) {
			config := jqPoll(c.program)
			config.Until = c.until
			within(t, config, func(e *env) {
				e.set(document(`{"status":"open"}`))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(`{"status":"shipped"}`))
				advance(2 * time.Second)
				v.wantAll(e.t, `"open"`, c.want)
				for range 2 { // an order that is shipped already gives complete alone, and then 204
					late := e.subscribe(newRequest("/doc"))
					late.wantAll(e.t, c.want)
					if !late.hasEnded() || !e.isFinished("/doc", late.lastID()) || !e.isFinished("/doc", v.lastID()) {
						e.t.Error("the stream of a finished document goes on")
					}
				}
			})
			config.First = "document"
			within(t, config, func(e *env) {
				e.set(document(`{"status":"open"}`))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(`{"status":"shipped"}`))
				advance(2 * time.Second)
				v.wantAll(e.t, `{"status":"open"}`, c.want)
			})
		})
	}
}

// The view has ended with complete when the client comes back.
func TestClientThatComesBackAfterTheEndGetsWhatItMissed(t *testing.T) {
	c := jqPoll(`.new.items[(.old.items // [] | length):][] | {event: "item", data: .}`)
	c.Until = "select(.done) | {total: (.items | length)}"
	const end = `complete {"total":3}`
	for _, linger := range []time.Duration{-1, time.Minute} {
		c.Linger = caddy.Duration(linger)
		within(t, c, func(e *env) {
			e.set(document(`{"items":[1,2]}`))
			v := e.subscribe(newRequest("/doc"))
			position := v.lastID()
			e.set(document(`{"items":[1,2,3],"done":true}`))
			advance(2 * time.Second)
			v.wantAll(e.t, "item 1", "item 2", "item 3", end)
			for range 2 {
				back := e.resume(newRequest("/doc"), position)
				back.wantAll(e.t, "item 3", end)
				if !back.hasEnded() || !e.isFinished("/doc", back.lastID()) || !e.isFinished("/doc", v.lastID()) {
					e.t.Error("the stream goes on")
				}
				late := e.subscribe(newRequest("/doc"))
				late.wantAll(e.t, "item 1", "item 2", "item 3", end)
				e.resume(newRequest("/doc"), late.idOf(1)).wantAll(e.t, "item 3", end)
				e.resume(newRequest("/doc"), late.idOf(2)).wantAll(e.t, end)
			}
			if last := e.hub.Head(); last != 4 {
				e.t.Errorf("there are %d events", last)
			}
		})
	}
}

func TestProgramThatFailsSendsNoDocument(t *testing.T) {
	logged(t, jqPoll(`if .new == 2 then error("no") else {data: [.old, .new]} end`), func(e *env, log *observer.ObservedLogs) {
		v := e.subscribe(newRequest("/doc"))
		e.set(document("2"))
		advance(2 * time.Second)
		wantLines(t, log, "warn example.com 502")
		e.subscribe(newRequest("/doc")).want(e.t, "[null,1]", "stale")
		e.set(document("3"))
		advance(20 * time.Second)
		v.want(e.t, "[null,1]", "stale", "fresh", "[1,3]")
		e.subscribe(newRequest("/doc")).want(e.t, "[null,3]")
	})
	for name, body := range map[string]string{"fails": `{"a":1}`, "reads no text": "<html>", "makes no event": "true"} {
		within(t, jqPoll(`if .new == true then 1 else {data: (.new | .[0])} end`), func(e *env) {
			e.set(document(body))
			e.subscribe(newRequest("/doc")).want(e.t, "stale")
			if v := e.subscribe(newRequest("/doc")); v.lastID() == "" {
				e.t.Error(name)
			}
			e.set(document("[1]"))
			advance(20 * time.Second)
			e.viewers[0].want(e.t, "stale", "fresh", "1")
		})
	}
}

func TestFreshEndsStaleOfShapedView(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1]"))
		v := e.subscribe(newRequest("/doc"))
		e.set(status(503))
		advance(2 * time.Second)
		stale := v.lastID()
		e.set(document("[1]"))
		advance(20 * time.Second)
		e.resume(newRequest("/doc"), stale).want(e.t, "fresh")
		e.set(status(503))
		advance(2 * time.Second)
		e.set(document("[1,2]"))
		advance(20 * time.Second)
		v.want(e.t, "item", "stale", "fresh", "stale", "fresh", "item")
		e.subscribe(newRequest("/doc")).want(e.t, "item", "item")
	})
}

func TestEventNamesOutputsWithoutAName(t *testing.T) {
	c := jqPoll(`.new[] | if .name then {event: .name, data: .} else {data: .} end`)
	c.Event = "of-{json.type}"
	within(t, c, func(e *env) {
		e.set(document(`[{"type":"a"},{"type":"b"},{"name":"c","type":"d"},{}]`))
		e.subscribe(newRequest("/doc")).wantAll(e.t, `of-a {"type":"a"}`, `of-b {"type":"b"}`, `c {"name":"c","type":"d"}`, `{}`)
	})
}

func TestShapedEventsArePublishedTogetherOrNotAtAll(t *testing.T) {
	s := &flakyStore{Memory: store.NewMemory()}
	withinStore(t, jqPoll(growing), s, func(e *env) {
		e.set(document("[1]"))
		v := e.subscribe(newRequest("/doc"))
		s.broken.Store(true)
		e.set(document("[1,2,3]"))
		advance(3 * time.Second)
		v.wantAll(e.t, "item 1")
		s.broken.Store(false)
		advance(20 * time.Second)
		v.wantAll(e.t, "item 1", "item 2", "item 3")
	})
}

func TestShapedViewIsSharedAndAbsorbs(t *testing.T) {
	c := jqPoll(growing)
	c.Share, c.Absorb = "checked", true
	within(t, c, func(e *env) {
		e.set(document("[1]"))
		a := e.subscribe(newRequest("/doc", "Authorization", "a"))
		e.set(document("[1,2]"))
		advance(2 * time.Second)
		b := e.subscribe(newRequest("/doc", "Authorization", "b"))
		b.wantAll(e.t, "item 1", "item 2")
		at := a.idOf(0)
		a.leave()
		e.set(document("[1,2,3]"))
		advance(10 * time.Second)
		e.resume(newRequest("/doc", "Authorization", "a"), at).wantAll(e.t, "item 2", "item 3")
		e.resume(newRequest("/doc", "Authorization", "c"), at).wantAll(e.t, reset, "item 1", "item 2", "item 3")
	})
}

// The new configuration's view begins before the old one is retired, or after, and
// after the old one has ended.
func TestReloadLosesAndRepeatsNoEventOfAProgram(t *testing.T) {
	for _, order := range []string{"new view, retire, leave", "retire, new view, leave", "retire, leave, new view", "leave, retire, new view"} {
		for first, early := range map[string][]string{"program": {"item 1", "item 2"}, "nothing": nil} {
			c := jqPoll(growing)
			c.First = first
			within(t, c, func(e *env) {
				e.set(document("[1,2]"))
				moves, stays := e.subscribe(newRequest("/doc")), (*viewer)(nil)
				moves.wantAll(e.t, early...)
				now := e.successor(c)
				now.set(document("[1,2,3]"))
				for _, step := range strings.Split(order, ", ") {
					switch step {
					case "new view":
						stays = now.subscribe(newRequest("/doc"))
					case "retire":
						e.Retire()
					case "leave":
						moves.leave()
					}
					advance(10 * time.Millisecond)
				}
				back := now.resume(newRequest("/doc"), moves.lastID())
				got := moves.all()[len(early):] // before it left
				got = append(got, back.all()...)
				if !slices.Equal(got, []string{"item 3"}) {
					e.t.Errorf("%s, first %s: got %q", order, first, got)
				}
				now.set(document("[1,2,3,4]"))
				advance(3 * time.Second)
				if last := stays.all(); last[len(last)-1] != "item 4" {
					e.t.Errorf("%s: %q", order, last)
				}
				now.over()
			})
		}
	}
}

func TestReloadWithAnotherProgramResets(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1,2]"))
		v := e.subscribe(newRequest("/doc"))
		now := e.successor(jqPoll(`.new[] | {event: "number", data: .}`))
		now.set(document("[1,2]"))
		e.Retire()
		now.resume(newRequest("/doc"), v.lastID()).wantAll(e.t, reset, "number 1", "number 2")
		now.over()
	})
}

func TestFailureOverReloadEndsWithFresh(t *testing.T) {
	within(t, jqPoll(growing), func(e *env) {
		e.set(document("[1]"))
		v := e.subscribe(newRequest("/doc"))
		e.set(status(503))
		advance(2 * time.Second)
		v.want(e.t, "item", "stale")
		now := e.successor(jqPoll(growing))
		now.set(status(503))
		e.Retire()
		back := now.resume(newRequest("/doc"), v.lastID())
		back.want(e.t)
		now.set(document("[1,2]"))
		advance(20 * time.Second)
		back.want(e.t, "fresh", "item")
		now.over()
	})
}

// A viewer of a shared view gets nothing from before it was authorized.
func TestReloadGrantsNoViewerWhatWasSentBefore(t *testing.T) {
	c := jqPoll(growing)
	c.Share = "checked"
	within(t, c, func(e *env) {
		e.set(document("[1]"))
		a := e.subscribe(newRequest("/doc", "Authorization", "a"))
		old := a.lastID()
		e.set(document("[1,2]"))
		advance(2 * time.Second)
		now := e.successor(c)
		now.set(document("[1,2]"))
		e.Retire()
		now.resume(newRequest("/doc", "Authorization", "b"), old).wantAll(e.t, reset, "item 1", "item 2")
		now.resume(newRequest("/doc", "Authorization", "a"), a.lastID()).wantAll(e.t)
		now.over()
	})
}

func TestInvalidFirstIsRefused(t *testing.T) {
	for want, c := range map[string]poll.Config{
		"first says what new viewers get with send jq": {First: "program"},
		`unknown first "all": use document, program`:   {Send: "jq", SendArgument: ".", First: "all"},
	} {
		if err := c.Provision(); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
