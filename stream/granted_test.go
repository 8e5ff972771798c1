package stream_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestUngrantedStreamHasOnlyHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		granted := new(signal.Signal)
		src := stream.Subscribe(h, []string{"a"}, "")
		src.Granted = granted
		s := serve(src, get("/"), nil, options, newClient())
		synctest.Wait()
		publish(t, h, "one", "a")
		publish(t, h, "two", "a")
		time.Sleep(time.Minute + time.Second)
		if got := s.since(0); got != strings.Repeat(s.all()[0].data, 5) {
			t.Errorf("the stream sent %q", got)
		}
		granted.Set()
		synctest.Wait()
		publish(t, h, "three", "a")
		synctest.Wait()
		if got := s.data(t); !slices.Equal(got, []string{"one", "two", "three"}) {
			t.Errorf("the stream sent %q", got)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestRefusedStreamSendsNoEvents(t *testing.T) {
	for name, end := range map[stream.Reason]func(*stream.Group, *signal.Signal){
		stream.Moved:    func(g *stream.Group, _ *signal.Signal) { g.End(time.Second) },
		stream.ShutDown: func(g *stream.Group, _ *signal.Signal) { g.End(0) },
		stream.Revoked:  func(_ *stream.Group, revoked *signal.Signal) { revoked.Set() },
	} {
		synctest.Test(t, func(t *testing.T) {
			h, group, revoked := newHub(t, store.History{}), new(stream.Group), new(signal.Signal)
			src := stream.Subscribe(h, []string{"a"}, "")
			src.Granted, src.Revoked = new(signal.Signal), revoked
			position := src.Cursor.Position()
			s := serve(src, get("/"), group, options, newClient())
			synctest.Wait()
			publish(t, h, "secret", "a")
			end(group, revoked)
			s.wantEnd(t, name)
			got := s.since(0)
			if strings.Contains(got, "secret") {
				t.Errorf("%s: the stream sent %q", name, got)
			}
			if name != stream.Revoked && !strings.Contains(got, "id: "+position+"\n") {
				t.Errorf("%s: the position %s is not sent: %q", name, position, got)
			}
		})
	}
}
