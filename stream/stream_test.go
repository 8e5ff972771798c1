package stream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestStreamHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		c.header.Set("Content-Length", "3")
		c.header.Set("Vary", "Accept")
		s := serve(stream.Subscribe(newHub(t, store.History{}), []string{"a"}, ""), get("/"), nil, options, c)
		synctest.Wait()
		want := http.Header{
			"Content-Type":                 {"text/event-stream"},
			"Cache-Control":                {"no-cache, no-store, private, no-transform"},
			"Cross-Origin-Resource-Policy": {"same-origin"},
			"X-Content-Type-Options":       {"nosniff"},
			"X-Accel-Buffering":            {"no"},
			"Vary":                         {"Accept"},
		}
		if !maps.EqualFunc(c.header, want, slices.Equal) || c.status != 200 {
			t.Errorf("%d %v", c.status, c.header)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestStreamSendsFirstBytesBeforeAnyEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(newHub(t, store.History{}), nil, options)
		writes := s.all()
		if len(writes) != 1 || writes[0].at != 0 || writes[0].flushes != 1 {
			t.Fatalf("%+v", writes)
		}
		if retry, rest := cutRetry(t, writes[0].data); retry == 0 || rest != "" {
			t.Errorf("%q", writes[0].data)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestInitialEventsComeWithFirstBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		first := publish(t, h, "first", "other")
		src := stream.Source{Cursor: h.Subscribe([]string{"a"}), Initial: []*store.Entry{first}}
		publish(t, h, "second", "a")
		s := serve(src, get("/"), nil, options, newClient())
		synctest.Wait()
		if got := s.data(t); !slices.Equal(got, []string{"first", "second"}) {
			t.Errorf("%q", got)
		}
		if writes := s.all(); !strings.HasSuffix(writes[0].data, string(first.Frame)) {
			t.Errorf("the first write is %q", writes[0].data)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		if s.summary.Events != 2 || s.summary.Bytes != int64(len(s.since(0))) {
			t.Errorf("%+v, of %d bytes", s.summary, len(s.since(0)))
		}
	})
}

func TestEventIsSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		s := open(h, nil, options)
		time.Sleep(time.Second)
		e := publish(t, h, "x", "a")
		synctest.Wait()
		writes := s.all()
		if last := writes[len(writes)-1]; len(writes) != 2 || last.at != time.Second || last.flushes != 1 || last.data != string(e.Frame) {
			t.Errorf("%+v", writes)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestHeartbeatComesOnlyWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		s := open(h, nil, options)
		time.Sleep(10 * time.Second)
		publish(t, h, "x", "a")
		time.Sleep(31 * time.Second)
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		var got []string
		for i, w := range s.all()[1:] {
			got = append(got, fmt.Sprintf("%d %q", w.flushes, w.data[:2]))
			if i > 0 && !isHeartbeatAfter(s.all()[i].at)(w.at) {
				t.Errorf("a heartbeat at %v, after what came at %v", w.at, s.all()[i].at)
			}
		}
		if want := []string{`1 "id"`, `1 "re"`, `1 "re"`}; !slices.Equal(got, want) || s.all()[1].at != 10*time.Second {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestRetryHasJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		retries := map[time.Duration]int{}
		low, high := time.Hour, time.Duration(0)
		for range 200 {
			s := open(h, nil, options)
			s.disconnect()
			s.wantEnd(t, stream.ClientLeft)
			retry, _ := cutRetry(t, s.since(0))
			retries[retry]++
			low, high = min(low, retry), max(high, retry)
		}
		if low < 1500*time.Millisecond || high >= 4500*time.Millisecond || low > 2*time.Second || high < 4*time.Second {
			t.Errorf("within %v and %v", low, high)
		}
		if len(retries) < 100 {
			t.Errorf("only %d different times among 200", len(retries))
		}
	})
}

// A slow write makes the next write larger. It doesn't make more writes.
func TestBacklogIsOneWriteAndOneFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c := newClient()
		var want []string
		c.onWrite = func() error {
			c.onWrite = nil
			for i := range 50 {
				want = append(want, fmt.Sprint(i))
				publish(t, h, fmt.Sprint(i), "a")
			}
			return nil
		}
		s := serve(stream.Subscribe(h, []string{"a"}, ""), get("/"), nil, options, c)
		synctest.Wait()
		if writes := s.all(); len(writes) != 2 || writes[1].flushes != 1 {
			t.Errorf("%d writes", len(writes))
		}
		if got := s.data(t); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestBatchIsBounded(t *testing.T) {
	const maxBatch = 256 << 10
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		for range 10 {
			publish(t, h, large(100<<10), "a")
		}
		publish(t, h, large(2*maxBatch), "a")
		publish(t, h, "end", "a")
		s := serve(stream.Subscribe(h, []string{"a"}, h.Position(0)), get("/"), nil, options, newClient())
		synctest.Wait()
		if got := s.data(t); len(got) != 12 || got[11] != "end" {
			t.Fatalf("%d events", len(got))
		}
		writes := s.all()[1:]
		for _, w := range writes {
			if len(w.data) > maxBatch && strings.Count(w.data, "data: ") > 1 || w.flushes != 1 {
				t.Errorf("a write of %d bytes, %d flushes", len(w.data), w.flushes)
			}
		}
		if len(writes) != 7 { // five of two events, the event above the limit, the last event
			t.Errorf("%d writes", len(writes))
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestStreamEndsInSecondHalfOfMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		o := options
		o.MaxAge = time.Hour
		ages := map[time.Duration]bool{}
		for range 20 {
			s := open(h, nil, o)
			s.wantEnd(t, stream.MaxAgeReached)
			if !between(s.at, 30*time.Minute, time.Hour) {
				t.Errorf("the stream ended after %v", s.at)
			}
			ages[s.at] = true
			writes := s.all()
			retry, rest := cutRetry(t, writes[len(writes)-1].data)
			if !between(retry, 1500*time.Millisecond, 4500*time.Millisecond) || rest != "id: "+h.Position(0)+"\n\n" {
				t.Errorf("the last write is %q", writes[len(writes)-1].data)
			}
		}
		if len(ages) < 15 {
			t.Errorf("only %d different ages", len(ages))
		}
	})
}

func TestGroupEndsStreamsAcrossDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		group := new(stream.Group)
		var sessions []*session
		for range 100 {
			sessions = append(sessions, open(h, group, options))
		}
		group.End(30 * time.Second)
		late := open(h, group, options)
		var quarters [4]int
		for _, s := range append(sessions, late) {
			s.wantEnd(t, stream.Moved)
			if s.at >= 30*time.Second {
				t.Fatalf("a stream ended after %v", s.at)
			}
			quarters[s.at/(7500*time.Millisecond)]++
			writes := s.all()
			if retry, _ := cutRetry(t, writes[len(writes)-1].data); !between(retry, 250*time.Millisecond, 750*time.Millisecond) {
				t.Errorf("the client reconnects after %v", retry)
			}
		}
		for i, n := range quarters {
			if n < 8 {
				t.Errorf("%d of 101 end in quarter %d: %v", n, i+1, quarters)
			}
		}
	})
}

func TestEndWithoutDrainIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		group := new(stream.Group)
		early := open(h, group, options)
		time.Sleep(time.Second)
		group.End(0)
		late := serve(stream.Subscribe(h, []string{"a"}, ""), get("/"), group, options, newClient())
		for s, at := range map[*session]time.Duration{early: time.Second, late: 0} {
			s.wantEnd(t, stream.ShutDown)
			if s.at != at {
				t.Errorf("the stream ended after %v, want %v", s.at, at)
			}
			writes := s.all()
			if retry, _ := cutRetry(t, writes[len(writes)-1].data); !between(retry, 1500*time.Millisecond, 4500*time.Millisecond) {
				t.Errorf("without a next configuration, the client reconnects after %v", retry)
			}
		}
	})
}

func TestSecondEndOnlyHastens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		group := new(stream.Group)
		var sessions []*session
		for range 50 {
			sessions = append(sessions, open(h, group, options))
		}
		group.End(time.Minute)
		group.End(time.Hour)
		time.Sleep(time.Second)
		group.End(2 * time.Second)
		for _, s := range sessions {
			s.wantEnd(t, stream.Moved)
			if s.at > 3*time.Second {
				t.Errorf("a stream ended after %v", s.at)
			}
		}
	})
}

// A later End with more time changes nothing for streams that open afterwards.
func TestStreamOfAnEndedGroupEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := new(stream.Group)
		group.End(0)
		group.End(time.Hour)
		s := open(newHub(t, store.History{}), group, options)
		s.wantEnd(t, stream.ShutDown)
		if s.at > time.Second {
			t.Errorf("the stream ended after %v", s.at)
		}
	})
}

func TestGroupEndDoesNotExtendMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := new(stream.Group)
		o := options
		o.MaxAge = time.Minute
		s := open(newHub(t, store.History{}), group, o)
		group.End(100 * time.Hour)
		<-s.ended
		if s.at > time.Minute {
			t.Errorf("the stream ended after %v", s.at)
		}
	})
}

func TestClientWithPositionReceivesNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		request *http.Request
		event   bool
		want    bool
	}{
		"nothing received":        {get("/"), false, true},
		"an event received":       {get("/"), true, false},
		"resumed by the query":    {get("/?last_event_id=x"), false, false},
		"resumed by the header":   {withHeader("Last-Event-ID", "x"), false, false},
		"resumed, event received": {get("/?lastEventId=x"), true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			group := new(stream.Group)
			s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"})}, c.request, group, options, newClient())
			synctest.Wait()
			publish(t, h, "other", "b")
			if c.event {
				publish(t, h, "x", "a")
			}
			synctest.Wait()
			group.End(0)
			s.wantEnd(t, stream.ShutDown)
			writes := s.all()
			_, rest := cutRetry(t, writes[len(writes)-1].data)
			if want := "id: " + h.Position(1) + "\n\n"; c.want && rest != want || !c.want && rest != "" {
				t.Errorf("%s: %q", name, writes[len(writes)-1].data)
			}
		})
	}
}

func withHeader(name, value string) *http.Request {
	r := get("/")
	r.Header.Set(name, value)
	return r
}

// Clients that move to the next configuration receive the events that are published
// meanwhile.
func TestMovedClientMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		group := new(stream.Group)
		s := open(h, group, options)
		group.End(0)
		s.wantEnd(t, stream.ShutDown)
		publish(t, h, "meanwhile", "a")
		_, id, _ := strings.Cut(s.since(1), "id: ")
		next := serve(stream.Subscribe(h, []string{"a"}, strings.TrimSpace(id)), get("/"), nil, options, newClient())
		synctest.Wait()
		if got := next.data(t); !slices.Equal(got, []string{"meanwhile"}) {
			t.Errorf("%q", got)
		}
		next.disconnect()
		next.wantEnd(t, stream.ClientLeft)
	})
}

func TestEndingStreamSendsBacklog(t *testing.T) {
	for name, end := range map[string]func(*stream.Group, *signal.Signal){
		"source ended": func(_ *stream.Group, done *signal.Signal) { done.Set() },
		"moved":        func(g *stream.Group, _ *signal.Signal) { g.End(0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			group, done := new(stream.Group), new(signal.Signal)
			c := newClient()
			c.onWrite = func() error { // the stream finds the events and the end at the same time
				c.onWrite = nil
				publish(t, h, "1", "a")
				publish(t, h, "2", "a")
				end(group, done)
				return nil
			}
			s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"}), Done: done}, get("/"), group, options, c)
			<-s.ended
			if got := s.data(t); !slices.Equal(got, []string{"1", "2"}) {
				t.Errorf("%s: %q", name, got)
			}
		})
	}
}

func TestSourceEndEndsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		done := new(signal.Signal)
		s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"}), Done: done}, get("/"), nil, options, newClient())
		synctest.Wait()
		done.Set()
		s.wantEnd(t, stream.SourceEnded)
		if writes := s.all(); len(writes) != 1 {
			t.Errorf("%+v", writes)
		}
	})
}

// A failed write is the reason, and not the end of the source before it.
func TestWriteErrorAfterSourceEndIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c, broken := newClient(), errors.New("broken pipe")
		c.onWrite = func() error {
			if len(c.all()) > 1 {
				return broken
			}
			return nil
		}
		done := new(signal.Signal)
		cursor := h.Subscribe([]string{"a"})
		publish(t, h, "x", "a")
		<-cursor.Ready() // so that only the end of the source makes the stream read
		s := serve(stream.Source{Cursor: cursor, Done: done}, get("/"), nil, options, c)
		synctest.Wait()
		done.Set()
		s.wantEnd(t, stream.WriteFailed)
		if !errors.Is(s.summary.Err, broken) {
			t.Errorf("%+v", s.summary)
		}
	})
}

func TestClientDisconnectEndsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		cursor := h.Subscribe([]string{"a"})
		s := serve(stream.Source{Cursor: cursor}, get("/"), nil, options, newClient())
		time.Sleep(time.Second)
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		if s.at != time.Second || s.summary.Err != nil {
			t.Errorf("after %v: %+v", s.at, s.summary)
		}
		publish(t, h, "x", "a")
		if len(cursor.Ready()) > 0 {
			t.Error("the cursor is still subscribed")
		}
	})
}

func TestWriteErrorEndsStream(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, failing := range []int{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			c := newClient()
			c.onWrite = func() error {
				if len(c.all()) == failing {
					return broken
				}
				return nil
			}
			s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"})}, get("/"), nil, options, c)
			synctest.Wait()
			publish(t, h, "x", "a") // the second write; the third is a heartbeat
			s.wantEnd(t, stream.WriteFailed)
			if !errors.Is(s.summary.Err, broken) || len(s.all()) != failing {
				t.Errorf("%+v after %d writes", s.summary, len(s.all()))
			}
		})
	}
}

// A client that has received no event gets its position, so that it receives a
// reset when it reconnects.
func TestStreamBehindHistoryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{MaxEvents: 2})
		position := h.Position(0)
		c := newClient()
		c.onWrite = func() error {
			c.onWrite = nil
			for range 3 {
				publish(t, h, "x", "a")
			}
			return nil
		}
		s := serve(stream.Subscribe(h, []string{"a"}, ""), get("/"), nil, options, c)
		s.wantEnd(t, stream.FellBehind)
		if len(s.all()) != 2 || s.all()[1].data != "id: "+position+"\n\n" || s.summary.Err != nil {
			t.Errorf("%+v, %+v", s.summary, s.all())
		}
	})
}

// brokenReads is a log whose reads fail.
type brokenReads struct{ *store.Memory }

var errDisk = errors.New("disk on fire")

func (brokenReads) Read([]string, uint64, int, []*store.Entry) (store.Batch, error) {
	return store.Batch{}, errDisk
}

func TestStoreErrorEndsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(brokenReads{store.NewMemory()}, store.History{})
		s := open(h, nil, options)
		publish(t, h, "x", "a")
		s.wantEnd(t, stream.StoreFailed)
		if !errors.Is(s.summary.Err, errDisk) {
			t.Error(s.summary.Err)
		}
	})
}

// A client that is slower than its topic always has a backlog. Its stream must end
// nevertheless.
func TestStreamFarBehindStillEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*session, *stream.Group)
		want stream.Reason
	}{
		"moved":       {func(_ *session, g *stream.Group) { g.End(0) }, stream.ShutDown},
		"client left": {func(s *session, _ *stream.Group) { s.disconnect() }, stream.ClientLeft},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{MaxEvents: 50})
			cl := newClient()
			cl.onWrite = func() error {
				time.Sleep(time.Second)
				if time.Since(cl.began) > time.Hour {
					return errors.New("the stream went on for an hour")
				}
				publish(t, h, large(200<<10), "a")
				publish(t, h, large(200<<10), "a")
				return nil
			}
			o, group := options, new(stream.Group)
			o.Heartbeat = time.Hour
			s := serve(stream.Subscribe(h, []string{"a"}, ""), get("/"), group, o, cl)
			time.Sleep(10*time.Second + time.Millisecond)
			c.end(s, group)
			s.wantEnd(t, c.want)
			if s.at > 30*time.Second {
				t.Errorf("%s: the stream went on until %v", name, s.at)
			}
		})
	}
}

// A deadline for each write would be dear: over HTTP/2 it is a message to the
// connection's goroutine.
func TestOnlyWriteThatTakesTooLongGetsDeadline(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 10 * time.Second, 29 * time.Second, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			o := options
			o.WriteTimeout = timeout
			h, c := newHub(t, store.History{}), newClient()
			s := serve(stream.Subscribe(h, []string{"a"}, ""), get("/"), nil, o, c)
			for range 20 { // events and heartbeats
				time.Sleep(7 * time.Second)
				publish(t, h, "x", "a")
				time.Sleep(20 * time.Second)
			}
			synctest.Wait()
			if len(c.deadlines) > 0 {
				t.Errorf("timeout %v: deadlines %v without a slow write", timeout, c.deadlines)
			}
			blocked := time.Now()
			c.onWrite = func() error {
				for c.deadline().IsZero() {
					time.Sleep(timeout / 500)
				}
				return os.ErrDeadlineExceeded
			}
			publish(t, h, "x", "a")
			s.wantEnd(t, stream.WriteFailed)
			if took := time.Since(blocked); !between(took, timeout, timeout+timeout/250) || c.deadline().After(time.Now()) {
				t.Errorf("timeout %v: the write failed after %v, its deadline was %v", timeout, took, c.deadline())
			}
		})
	}
}

// The server recovers a panic of the handler's goroutine only.
func TestPanicOfWriterReachesHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := newHub(t, store.History{}), newClient()
		src := stream.Subscribe(h, []string{"a"}, "")
		var panicked any
		var summary stream.Summary
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { panicked = recover() }()
			stream.Prepare(c, get("/"), src, nil, &options).Run(get("/"), nil, func(s stream.Summary) { summary = s }, func() {})
		}()
		synctest.Wait()
		c.onWrite = func() error { panic(http.ErrAbortHandler) }
		publish(t, h, "x", "a")
		<-done
		if panicked != http.ErrAbortHandler || summary.Reason != stream.WriteFailed {
			t.Errorf("the handler panicked with %v, and the stream ended for %q", panicked, summary.Reason)
		}
	})
}

func TestNoWriteTimeoutSetsNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(newHub(t, store.History{}), nil, options)
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		if len(s.deadlines) > 0 {
			t.Errorf("%v", s.deadlines)
		}
	})
}

func TestRequestBodyIsDiscardedUpToLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := strings.NewReader(large(1 << 20))
		r := httptest.NewRequest(http.MethodGet, "/", body)
		s := serve(stream.Subscribe(newHub(t, store.History{}), []string{"a"}, ""), r, nil, options, newClient())
		synctest.Wait()
		if read := 1<<20 - body.Len(); read != 64<<10 {
			t.Errorf("%d bytes were read", read)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestClientResumesOrReceivesReset(t *testing.T) {
	const reset = `{"reason":"the position is not in the history"}`
	for _, c := range []struct {
		id   func(h *hub.Hub) string
		want []string
	}{
		{func(*hub.Hub) string { return "" }, []string{"5"}},
		{func(h *hub.Hub) string { return h.Position(4) }, []string{"5"}},
		{func(h *hub.Hub) string { return h.Position(2) }, []string{"3", "4", "5"}},
		{func(h *hub.Hub) string { return h.Position(1) }, []string{"2", "3", "4", "5"}},
		{func(h *hub.Hub) string { return h.Position(0) }, []string{reset, "5"}},
		{func(h *hub.Hub) string { return h.Position(5) }, []string{reset, "5"}},
		{func(*hub.Hub) string { return "garbage" }, []string{reset, "5"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{MaxEvents: 3})
			for _, data := range []string{"1", "2", "3", "4"} {
				publish(t, h, data, "a")
			}
			id := c.id(h)
			s := serve(stream.Subscribe(h, []string{"a"}, id), get("/"), nil, options, newClient())
			synctest.Wait()
			h.SetHistory(store.History{})
			publish(t, h, "5", "a")
			synctest.Wait()
			if got := s.data(t); !slices.Equal(got, c.want) {
				t.Errorf("%q: %q, want %q", id, got, c.want)
			}
			s.disconnect()
			s.wantEnd(t, stream.ClientLeft)
		})
	}
}

func TestClientResumesAfterReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		publish(t, h, "1", "a")
		s := serve(stream.Subscribe(h, []string{"a"}, "garbage"), get("/"), nil, options, newClient())
		synctest.Wait()
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		events := s.events(t)
		if len(events) != 1 || events[0].Name != "reset" {
			t.Fatalf("%+v", events)
		}
		publish(t, h, "2", "a")
		next := serve(stream.Subscribe(h, []string{"a"}, events[0].ID), get("/"), nil, options, newClient())
		synctest.Wait()
		if got := next.data(t); !slices.Equal(got, []string{"2"}) {
			t.Errorf("%q", got)
		}
		next.disconnect()
		next.wantEnd(t, stream.ClientLeft)
	})
}

// Over a connection, too, the client receives bytes before the first event.
func TestStreamWorksOverHTTP(t *testing.T) {
	h := newHub(t, store.History{})
	group := new(stream.Group)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream.Serve(w, r, stream.Subscribe(h, []string{"a"}, stream.LastEventID(r)), group, &options)
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	if first, err := lines.ReadString('\n'); !retryLine.MatchString(first) || err != nil {
		t.Fatalf("%q, %v", first, err)
	}
	if resp.ContentLength >= 0 || resp.Header.Get("Content-Type") != stream.MediaType {
		t.Errorf("%d bytes, %v", resp.ContentLength, resp.Header)
	}
	e := publish(t, h, "x", "a")
	group.End(0)
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(string(rest), string(e.Frame)) {
		t.Errorf("%q", rest)
	}
}

func TestRevokedStreamSendsNothingPublishedLater(t *testing.T) {
	for name, end := range map[string]func(group *stream.Group, done *signal.Signal){
		"open":         func(*stream.Group, *signal.Signal) {},
		"source ended": func(_ *stream.Group, done *signal.Signal) { done.Set() },
		"shut down":    func(group *stream.Group, _ *signal.Signal) { group.End(0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			group, done, revoked := new(stream.Group), new(signal.Signal), new(signal.Signal)
			s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"}), Done: done, Revoked: revoked}, get("/"), group, options, newClient())
			synctest.Wait()
			publish(t, h, "1", "a")
			synctest.Wait()
			revoked.Set()
			publish(t, h, "2", "a")
			end(group, done)
			s.wantEnd(t, stream.Revoked)
			if got := s.data(t); !slices.Equal(got, []string{"1"}) {
				t.Errorf("%s: %q", name, got)
			}
		})
	}
}

func TestStreamRevokedBeforeServeSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		revoked := new(signal.Signal)
		revoked.Set()
		first := publish(t, h, "1", "a")
		s := serve(stream.Source{Cursor: h.Subscribe([]string{"a"}), Initial: []*store.Entry{first}, Revoked: revoked}, get("/"), nil, options, newClient())
		s.wantEnd(t, stream.Revoked)
		if got := s.events(t); len(got) > 0 {
			t.Errorf("%q", got)
		}
	})
}
