package stream_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestStopEndsOnlyItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		group, stop := new(stream.Group), new(atomic.Bool)
		src := stream.Subscribe(h, []string{"a"}, "")
		src.Stop = stop
		s, other := serve(src, get("/"), group, options, newClient()), open(h, group, options)
		synctest.Wait()
		publish(t, h, "1", "a")
		synctest.Wait()
		stop.Store(true)
		publish(t, h, "2", "a") // wakes the stream before the group does
		group.Notify()
		s.wantEnd(t, stream.Stopped)
		if got := s.data(t); !slices.Equal(got, []string{"1"}) {
			t.Errorf("the stream sent %q", got)
		}
		time.Sleep(time.Minute)
		publish(t, h, "3", "a")
		synctest.Wait()
		if got := other.data(t); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("the other stream sent %q", got)
		}
		other.disconnect()
		other.wantEnd(t, stream.ClientLeft)
	})
}

func TestStopBeforeServeSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		src := stream.Subscribe(h, []string{"a"}, "")
		src.Stop = new(atomic.Bool)
		src.Stop.Store(true)
		publish(t, h, "1", "a")
		s := serve(src, get("/"), new(stream.Group), options, newClient())
		s.wantEnd(t, stream.Stopped)
		_, id, _ := strings.Cut(s.since(1), "id: ")
		next := serve(stream.Subscribe(h, []string{"a"}, strings.TrimSpace(id)), get("/"), nil, options, newClient())
		synctest.Wait()
		if got := next.data(t); len(s.data(t)) > 0 || !slices.Equal(got, []string{"1"}) {
			t.Errorf("the stream sent %q, and %q after the reconnect", s.data(t), got)
		}
		next.disconnect()
		next.wantEnd(t, stream.ClientLeft)
	})
}

func TestStopEndsUngrantedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		group, stop := new(stream.Group), new(atomic.Bool)
		src := stream.Subscribe(h, []string{"a"}, "")
		src.Stop, src.Granted = stop, new(signal.Signal)
		s := serve(src, get("/"), group, options, newClient())
		synctest.Wait()
		stop.Store(true)
		group.Notify()
		s.wantEnd(t, stream.Stopped)
	})
}

func TestSubscribeReportsStart(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 2})
	for _, data := range []string{"1", "2", "3", "4"} {
		publish(t, h, data, "a")
	}
	for id, want := range map[string]stream.Start{"": stream.New, h.Position(3): stream.Resumed, h.Position(1): stream.Lost, "garbage": stream.Lost} {
		src := stream.Subscribe(h, []string{"a"}, id)
		src.Cursor.Close()
		if src.Start != want {
			t.Errorf("%q: Start is %v, want %v", id, src.Start, want)
		}
	}
}
