package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestExitSendsShutdownEvent(t *testing.T) {
	for name, c := range map[string]struct {
		option bool // Options.ShutdownEvent
		end    func(*stream.Group)
		want   bool
	}{
		"an exit":                        {true, (*stream.Group).Exit, true},
		"an exit during a reload":        {true, func(g *stream.Group) { g.End(time.Hour); g.Exit() }, true},
		"an exit, without the option":    {false, (*stream.Group).Exit, false},
		"a reload":                       {true, func(g *stream.Group) { g.End(time.Second) }, false},
		"a reload that removes the rule": {true, func(g *stream.Group) { g.End(0) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			o := options
			o.ShutdownEvent = c.option
			group := new(stream.Group)
			s := open(h, group, o)
			seen := publish(t, h, "x", "a")
			synctest.Wait()
			c.end(group)
			<-s.ended
			events := s.events(t)
			end := events[len(events)-1]
			if got := end.Name == "shutdown" && string(end.Data) == "{}"; got != c.want {
				t.Errorf("%s: the last event is %q with %q", name, end.Name, end.Data)
			}
			if strings.Count(s.since(0), "id: ") != 1 || events[0].ID != seen.ID {
				t.Errorf("%s: the client's position has changed: %q", name, s.since(0))
			}
		})
	}
}

// Clients with a document move within two seconds, not all at once.
func TestMovedClientReconnectsSoon(t *testing.T) {
	for name, test := range map[string]struct{ noPosition, groupOpen bool }{
		"with a document":                 {},
		"without":                         {noPosition: true},
		"before the group has been ended": {groupOpen: true},
	} {
		noPosition := test.noPosition
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			moved := new(signal.Signal)
			src := stream.Subscribe(h, []string{"a"}, "")
			src.Moved, src.NoPosition = moved, noPosition
			group := new(stream.Group)
			s := serve(src, get("/"), group, options, newClient())
			synctest.Wait()
			if !test.groupOpen {
				group.End(time.Hour)
			}
			time.Sleep(time.Second)
			publish(t, h, "x", "b")
			moved.Set()
			s.wantEnd(t, stream.Moved)
			if s.at < time.Second || s.at > 3*time.Second || noPosition && s.at != time.Second {
				t.Errorf("%s: the stream ended after %v", name, s.at)
			}
			writes := s.all()
			retry, rest := cutRetry(t, writes[len(writes)-1].data)
			position := "id: " + h.Position(0) + "\n\n"
			if noPosition {
				position = ""
			}
			if !between(retry, 250*time.Millisecond, 750*time.Millisecond) || rest != position && (noPosition || rest != "id: "+h.Position(1)+"\n\n") {
				t.Errorf("%s: the client reconnects after %v, and receives %q", name, retry, rest)
			}
		})
	}
}
