package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// expiring returns src with an authorization that ends after d.
func expiring(src stream.Source, d time.Duration) stream.Source {
	src.Expires = time.Now().Add(d)
	return src
}

func TestStreamEndsWhenTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		s := serve(expiring(stream.Subscribe(h, []string{"a"}, ""), time.Minute), get("/"), nil, options, newClient())
		time.Sleep(59 * time.Second)
		publish(t, h, "in time", "a")
		s.wantEnd(t, stream.Expired)
		publish(t, h, "too late", "a")
		if data := s.data(t); s.at != time.Minute || len(data) != 1 || data[0] != "in time" {
			t.Errorf("after %v: %q", s.at, data)
		}
	})
}

func TestExpiredStreamWithoutEventsSendsPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		position := h.Position(0)
		s := serve(expiring(stream.Subscribe(h, []string{"a"}, ""), time.Minute), get("/"), nil, options, newClient())
		s.wantEnd(t, stream.Expired)
		if all := s.since(0); !strings.HasSuffix(all, "id: "+position+"\n\n") {
			t.Errorf("%q has no position at its end", all)
		}
		publish(t, h, "meanwhile", "a")
		next := serve(stream.Subscribe(h, []string{"a"}, position), get("/"), nil, options, newClient())
		synctest.Wait()
		if data := next.data(t); len(data) != 1 || data[0] != "meanwhile" {
			t.Errorf("after the reconnect: %q", data)
		}
		next.disconnect()
		<-next.ended
	})
}

func TestExpiredStreamSendsNoBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		first := publish(t, h, "0", "a")
		for range 10 {
			publish(t, h, large(200<<10), "a") // a batch holds one or two
		}
		c := newClient()
		c.onWrite = func() error { time.Sleep(time.Second); return nil }
		s := serve(expiring(stream.Subscribe(h, []string{"a"}, first.ID), 2500*time.Millisecond), withHeader("Last-Event-ID", first.ID), nil, options, c)
		s.wantEnd(t, stream.Expired)
		if n := len(c.all()); n != 3 {
			t.Errorf("%d writes, want 3: those that began in time", n)
		}
	})
}
