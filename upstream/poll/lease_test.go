package poll_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// successor returns the poller of the next configuration, with its own backend.
// Viewers of both must leave before the test ends.
func (e *env) successor(c poll.Config) *env {
	e.t.Helper()
	c.Leases = e.leases
	if err := c.Provision(); err != nil {
		e.t.Fatal(err)
	}
	b := &backend{began: e.began}
	b.set(document("1"))
	return &env{Poller: poll.New(&c, e.hub, zap.NewNop(), nil), backend: b, t: e.t, hub: e.hub, leases: e.leases}
}

// over makes all viewers leave.
func (e *env) over() {
	e.t.Helper()
	for _, v := range e.viewers {
		v.leave()
	}
	e.Retire()
	synctest.Wait()
	if !e.Done() {
		e.t.Errorf("%d views are left", e.Views())
	}
}

func last(of []string) string {
	if len(of) == 0 {
		return ""
	}
	return of[len(of)-1]
}

func TestNextConfigurationsDocumentWins(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) (*subrequest.Response, error){
		"the same bytes": func(*http.Request) (*subrequest.Response, error) { return document(`{"of":"new"}`), nil },
		"304": func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("If-None-Match") == `"1"` {
				return status(http.StatusNotModified), nil
			}
			return document(`{"of":"new"}`, "ETag", `"1"`), nil
		},
	} {
		for _, send := range []string{"full", "patch", "items id"} {
			within(t, config{}.with(send), func(e *env) {
				e.set(document(`{"of":"old"}`))
				stays, moves := e.subscribe(newRequest("/doc")), e.subscribe(newRequest("/doc"))
				now := e.successor(config{}.with(send))
				now.setFunc(answer)
				early := now.subscribe(newRequest("/doc"))
				e.Retire()
				e.set(document(`{"of":"old","n":2}`))
				advance(3 * time.Second)
				moved := now.resume(newRequest("/doc"), moves.lastID())
				moves.leave()
				e.set(document(`{"of":"old","n":3}`))
				advance(3 * time.Second)
				id := stays.lastID()
				stays.leave()
				if !e.Done() {
					t.Error("the old one goes on")
				}
				had := stays.got()
				late := now.resume(newRequest("/doc"), id)
				advance(3 * time.Second)
				fresh := now.subscribe(newRequest("/doc"))
				for who, got := range map[string][]string{"early": early.got(), "moved": append(moves.got(), moved.got()...), "late": append(had, late.got()...), "fresh": fresh.got()} {
					if last(got) != `{"of":"new"}` {
						t.Errorf("%s, %s: the %s viewer got %q", send, name, who, got)
					}
				}
				counts := len(early.got())
				advance(time.Minute)
				if len(early.got()) != counts {
					t.Errorf("%s, %s: it is sent again and again: %q", send, name, early.got())
				}
				now.over()
			})
		}
	}
}

// with sets the option send, as written in a Caddyfile.
func (c config) with(send string) poll.Config {
	c.Send, c.SendArgument = send, ""
	if send == "items id" {
		c.Send, c.SendArgument = "items", "id"
	}
	if send == "jq" {
		c.SendArgument = changes
	}
	return poll.Config(c)
}

type config poll.Config

func TestRetiredPollerStopsPublishing(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(document(`"old"`))
		old := e.subscribe(newRequest("/doc"))
		now := e.successor(poll.Config{})
		now.set(document(`"new"`))
		e.Retire()
		v := now.subscribe(newRequest("/doc"))
		advance(time.Minute)
		v.want(t, `"new"`)
		if got := old.got(); !slices.Equal(got, []string{`"old"`, `"new"`}) {
			t.Errorf("the viewer of the old configuration got %q", got)
		}
		now.over()
	})
}

func TestConfirmedDocumentOverridesOthersStaleEvent(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		old := e.subscribe(newRequest("/doc"))
		now := e.successor(poll.Config{})
		v := now.subscribe(newRequest("/doc"))
		e.Retire()
		e.set(status(http.StatusBadGateway))
		advance(3 * time.Second)
		old.leave()
		advance(3 * time.Second)
		if got := v.got(); last(got) != "1" {
			t.Errorf("%q", got)
		}
		now.over()
	})
}

func TestCompleteOfAnotherConfigurationDoesNotEndView(t *testing.T) {
	for _, send := range []string{"full", "patch"} {
		within(t, poll.Config{Until: ".done", Send: send}, func(e *env) {
			e.set(document(`{"done":false}`))
			old := e.subscribe(newRequest("/doc"))
			now := e.successor(poll.Config{Send: send})
			now.set(document(`{"done":false}`))
			v := now.subscribe(newRequest("/doc"))
			e.Retire()
			e.set(document(`{"done":true}`))
			advance(3 * time.Second)
			// With patches, whose topic is the view's own, all of the old document
			// was sent. Without, it is the new configuration's to send.
			got := old.got()
			if complete := slices.Contains(got, "complete"); complete != (send == "patch") || complete != old.hasEnded() || complete == old.hasMoved() {
				t.Errorf("%s: the old one's viewer got %q, ended: %t, moved: %t", send, got, old.hasEnded(), old.hasMoved())
			}
			advance(3 * time.Second)
			if got := v.got(); slices.Contains(got, "complete") || last(got) != `{"done":false}` || v.hasEnded() {
				t.Errorf("%s: the new one's viewer got %q", send, got)
			}
			now.over()
		})
	}
}

func TestUnsupersededDocumentIsNotSentAgain(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		e.subscribe(newRequest("/doc", "Authorization", "x"))
		for range 10 {
			e.publishElsewhere(1)
			advance(2 * time.Second)
		}
		v.want(t, "1")
	})
}

// A patch applies to the exact document that viewers have. That is unknown when
// the store took only a part of a change.
func TestSnapshotFollowsFailedPublish(t *testing.T) {
	const list = `[{"id":1,"note":"a long one, so that patches are shorter"},{"id":2}]`
	for send, partly := range map[string]int{"patch": 0, "items id": 3} {
		for left := range partly + 1 {
			s := &flakyStore{Memory: store.NewMemory()}
			withinStore(t, config{Interval: second}.with(send), s, func(e *env) {
				e.set(document(list, "ETag", `"1"`))
				v := e.subscribe(newRequest("/doc"))
				n := left
				s.afterAppend = func() {
					if n--; n <= 0 {
						s.broken.Store(true)
					}
				}
				s.broken.Store(left == 0)
				e.set(document(`[{"id":1,"note":"a long one, so that patches are shorter","n":1},{"id":3},{"id":4}]`, "ETag", `"2"`))
				advance(3 * time.Second)
				during := e.subscribe(newRequest("/doc"))
				id := v.lastID()
				s.afterAppend = nil
				s.broken.Store(false)
				back := e.resume(newRequest("/doc"), id)
				const now = `[{"id":1,"note":"a long one, so that patches are shorter","n":2},{"id":4}]`
				e.set(document(now, "ETag", `"3"`))
				advance(time.Minute)
				for who, w := range map[string]*viewer{"stayed": v, "came": during} {
					c := copyOf{}
					for _, event := range w.events() {
						if err := c.apply(event); err != nil {
							t.Errorf("%s, %d stored: the viewer that %s got %s %s: %v", send, left, who, event.Name, event.Data, err)
						}
					}
					if !c.has([]byte(now)) {
						t.Errorf("%s, %d stored: the viewer that %s has %s after %q", send, left, who, c.doc, w.got())
					}
				}
				if got := back.got(); last(got) != now {
					t.Errorf("%s, %d stored: the returning viewer got %q", send, left, got)
				}
			})
		}
	}
}

// The two views share a topic, and the cursor begins after both documents.
func TestViewerThatSubscribesDuringReloadGetsNewestDocument(t *testing.T) {
	within(t, config{}.with("full"), func(e *env) {
		e.set(document(`"old"`))
		viewing, _, err := e.Subscribe(newRequest("/doc"), &caller{backend: e.backend})
		if err != nil {
			t.Fatal(err)
		}
		now := e.successor(config{}.with("full"))
		now.set(document(`"new"`))
		other := now.subscribe(newRequest("/doc"))
		src := viewing.Source("")
		var got []string
		for _, event := range (&viewer{entries: src.Initial}).events() {
			got = append(got, string(event.Data))
		}
		if !slices.Equal(got, []string{`"new"`}) {
			t.Errorf("it begins with %q", got)
		}
		src.Cursor.Close()
		viewing.Close()
		other.leave()
		now.over()
	})
}
