package stream_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// addresses is a client that records where the bytes of each write are.
type addresses struct {
	*client
	at []*byte
}

func (c *addresses) Write(p []byte) (int, error) {
	c.at = append(c.at, &p[0])
	return c.client.Write(p)
}

func TestHeartbeatRepeatsTheStreamsRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		for range 20 {
			s := open(h, nil, options)
			time.Sleep(31 * time.Second)
			s.disconnect()
			s.wantEnd(t, stream.ClientLeft)
			writes := s.all()
			if len(writes) != 3 || writes[1].data != writes[0].data || writes[2].data != writes[0].data || !retryLine.MatchString(writes[0].data) {
				t.Fatalf("the stream sent %q", s.since(0))
			}
		}
	})
}

func TestHeartbeatsAreTheSameBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &addresses{client: newClient()}
		ctx, done := t.Context(), make(chan stream.Summary)
		h := newHub(t, store.History{})
		group := new(stream.Group)
		go func() {
			done <- stream.Serve(c, get("/").WithContext(ctx), stream.Source{Cursor: h.Subscribe([]string{"a"}), NoPosition: true}, group, &options)
		}()
		time.Sleep(50 * time.Second)
		group.End(0)
		<-done
		if len(c.at) != 5 || c.at[1] != c.at[2] || c.at[2] != c.at[3] {
			t.Errorf("the stream writes heartbeats from %v", c.at)
		}
	})
}

// A heartbeat is due at each write, which takes a second, and the events are
// larger than a batch.
func TestHeartbeatNeverCutsAnEvent(t *testing.T) {
	ping, err := stream.HeartbeatEvent("ping")
	if err != nil {
		t.Fatal(err)
	}
	for _, frame := range []event.Frame{nil, ping} {
		synctest.Test(t, func(t *testing.T) {
			o := options
			o.Heartbeat, o.HeartbeatEvent = time.Millisecond, frame
			h, c := newHub(t, store.History{}), newClient()
			c.onWrite = func() error { time.Sleep(time.Second); return nil }
			s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"})}, get("/"), nil, o, c)
			var frames []string
			for i := range 40 {
				e := publish(t, h, strings.Repeat("line\n", i)+large(i*20<<10), "a")
				frames = append(frames, string(e.Frame))
				time.Sleep(300 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			s.disconnect()
			s.wantEnd(t, stream.ClientLeft)
			retry, got := cutRetry(t, s.since(0))
			heartbeat := string(frame)
			if frame == nil {
				heartbeat = string(event.Retry(retry))
			}
			count := 0
			for got != "" {
				if rest, ok := strings.CutPrefix(got, heartbeat); ok {
					got, count = rest, count+1
				} else if len(frames) > 0 && strings.HasPrefix(got, frames[0]) {
					got, frames = got[len(frames[0]):], frames[1:]
				} else {
					t.Fatalf("neither a heartbeat nor the next event: %.60q", got)
				}
			}
			if len(frames) > 0 || count < 20 {
				t.Errorf("%d events are missing, and there are %d heartbeats", len(frames), count)
			}
		})
	}
}

// isHeartbeatAfter returns a function that reports whether a time is when a stream
// of options sends the next heartbeat.
func isHeartbeatAfter(last time.Duration) func(time.Duration) bool {
	return func(at time.Duration) bool { return between(at-last, options.Heartbeat*7/8, options.Heartbeat+1) }
}

// Streams that have sent the same event don't all send their heartbeats at once.
func TestHeartbeatsOfManyStreamsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, group := newHub(t, store.History{}), new(stream.Group)
		sessions := make([]*session, 200)
		for i := range sessions {
			sessions[i] = open(h, group, options)
		}
		publish(t, h, "x", "a")
		time.Sleep(15 * time.Second)
		group.End(0)
		inTenth := make(map[time.Duration]int)
		for _, s := range sessions {
			<-s.ended
			beat := s.all()[2]
			if !isHeartbeatAfter(0)(beat.at) {
				t.Errorf("a heartbeat at %v", beat.at)
			}
			inTenth[beat.at.Truncate(100*time.Millisecond)]++
		}
		for at, n := range inTenth {
			if n > 40 {
				t.Errorf("%d heartbeats within the tenth of a second after %v", n, at)
			}
		}
	})
}

func TestNamedHeartbeatComesAlsoWhileEventsFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options
		o.HeartbeatEvent, _ = stream.HeartbeatEvent("ping")
		h := newHub(t, store.History{})
		s := open(h, nil, o)
		for range 9 {
			time.Sleep(5 * time.Second)
			publish(t, h, "x", "a")
		}
		time.Sleep(time.Second)
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		var pings []time.Duration
		for _, w := range s.all() {
			if w.data == "event: ping\ndata: {}\n\n" {
				pings = append(pings, w.at)
			}
		}
		if len(pings) < 3 || !slices.ContainsFunc(pings, isHeartbeatAfter(0)) || !slices.ContainsFunc(pings, isHeartbeatAfter(pings[0])) {
			t.Errorf("pings at %v; the stream is %q", pings, s.since(0))
		}
		if s.summary.Events != 9 {
			t.Errorf("heartbeats count as events: %d", s.summary.Events)
		}
	})
}

// A client that has had nothing but heartbeats has no position yet.
func TestNamedHeartbeatIsNoPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options
		o.HeartbeatEvent, _ = stream.HeartbeatEvent("ping")
		h, group := newHub(t, store.History{}), new(stream.Group)
		s := open(h, group, o)
		time.Sleep(20 * time.Second)
		publish(t, h, "x", "b")
		group.End(0)
		s.wantEnd(t, stream.ShutDown)
		if position := string(event.Position(h.Position(1))); !strings.HasSuffix(s.since(0), position) {
			t.Errorf("%q doesn't end with the position %q", s.since(0), position)
		}
	})
}

func TestHeartbeatTakesNoNameOfAnotherEvent(t *testing.T) {
	for _, name := range append([]string{"", "message", "error", "open", "a\nb", "a\x00", strings.Repeat("x", 256)}, stream.ReservedNames...) {
		if frame, err := stream.HeartbeatEvent(name); err == nil {
			t.Errorf("%q is a heartbeat: %q", name, frame)
		}
	}
	if frame, err := stream.HeartbeatEvent("ping"); err != nil || string(frame) != "event: ping\ndata: {}\n\n" {
		t.Errorf("%q, %v", frame, err)
	}
}
