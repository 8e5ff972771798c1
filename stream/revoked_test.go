package stream_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// watchedStore calls onRead, if it is set, before a cursor reads.
type watchedStore struct {
	*store.Memory
	onRead func()
}

func (s *watchedStore) Read(topics []string, after uint64, maxBytes int, buf []*store.Entry) (store.Batch, error) {
	if s.onRead != nil {
		s.onRead()
	}
	return s.Memory.Read(topics, after, maxBytes, buf)
}

// A stream has no lock on the log: it may be about to read when its access ends,
// and find an event that was published afterwards.
func TestStreamWhoseAccessEndsDuringReadSendsNothing(t *testing.T) {
	for reason, withdraw := range map[stream.Reason]func(src *stream.Source, revoked *signal.Signal){
		stream.Revoked: func(_ *stream.Source, revoked *signal.Signal) { revoked.Set() },
		stream.Stopped: func(src *stream.Source, _ *signal.Signal) { src.Stop.Store(true) },
		stream.Expired: func(*stream.Source, *signal.Signal) { time.Sleep(time.Minute) },
	} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &watchedStore{Memory: store.NewMemory()}
				h := hub.New(s, store.History{})
				defer h.Close()
				revoked := new(signal.Signal)
				src := stream.Subscribe(h, []string{"a"}, "")
				src.Revoked, src.Stop = revoked, new(atomic.Bool)
				src = expiring(src, time.Minute)
				want := "id: " + src.Cursor.Position() + "\n\n"
				if reason == stream.Revoked {
					want = ""
				}
				c := serve(src, get("/"), nil, options, newClient())
				synctest.Wait()
				s.onRead = func() {
					s.onRead = nil
					withdraw(&src, revoked)
					publish(t, h, "secret", "a")
				}
				publish(t, h, "wakes it", "a")
				c.wantEnd(t, reason)
				if got := c.since(1); got != want {
					t.Errorf("it sent %q, want %q", got, want)
				}
			})
		})
	}
}
