package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestExitSendsShutdownEvent(t *testing.T) {
	for name, c := range map[string]struct {
		asked bool
		end   func(*stream.Group)
		want  bool
	}{
		"an exit":                           {true, (*stream.Group).Exit, true},
		"an exit during a reload":           {true, func(g *stream.Group) { g.End(time.Hour); g.Exit() }, true},
		"an exit, and nobody has asked":     {false, (*stream.Group).Exit, false},
		"a reload":                          {true, func(g *stream.Group) { g.End(time.Second) }, false},
		"a reload that takes the rule away": {true, func(g *stream.Group) { g.End(0) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			o := options
			o.ShutdownEvent = c.asked
			group := new(stream.Group)
			s := open(h, group, o)
			seen := publish(t, h, "x", "a")
			synctest.Wait()
			c.end(group)
			<-s.ended
			events := s.events(t)
			end := events[len(events)-1]
			if told := end.Name == "shutdown" && string(end.Data) == "{}"; told != c.want {
				t.Errorf("%s: the last event is %q with %q", name, end.Name, end.Data)
			}
			if strings.Count(s.since(0), "id: ") != 1 || events[0].ID != seen.ID {
				t.Errorf("%s: the client's position has changed: %q", name, s.since(0))
			}
		})
	}
}

// Not all at once, though: they may be many.
func TestMovedClientReconnectsSoon(t *testing.T) {
	for name, test := range map[string]struct{ unplaced, unended bool }{
		"with a document":                 {},
		"without":                         {unplaced: true},
		"before the group has been ended": {unended: true},
	} {
		unplaced := test.unplaced
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			moved := make(chan struct{})
			src := stream.Subscribe(h, []string{"a"}, "")
			src.Moved, src.NoPosition = moved, unplaced
			group := new(stream.Group)
			s := serve(src, get("/"), group, options, newClient())
			synctest.Wait()
			if !test.unended {
				group.End(time.Hour)
			}
			time.Sleep(time.Second)
			publish(t, h, "x", "b")
			close(moved)
			s.wantEnd(t, stream.Moved)
			if s.at < time.Second || s.at > 3*time.Second || unplaced && s.at != time.Second {
				t.Errorf("%s: it ended after %v", name, s.at)
			}
			writes := s.all()
			retry, rest := cutRetry(t, writes[len(writes)-1].data)
			position := "id: " + h.Position(0) + "\n\n"
			if unplaced {
				position = ""
			}
			if !between(retry, 250*time.Millisecond, 750*time.Millisecond) || rest != position && (unplaced || rest != "id: "+h.Position(1)+"\n\n") {
				t.Errorf("%s: its client is to come back after %v, and is told %q", name, retry, rest)
			}
		})
	}
}
