package poll_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestProvisionSetsDefaultsAndRejectsInvalidConfig(t *testing.T) {
	var c poll.Config
	if err := c.Provision(); err != nil {
		t.Fatal(err)
	}
	if c.Interval != 2*second || c.Max != 2*second || c.Timeout != 10*second || c.Linger != 30*second ||
		c.MaxBody != 10<<20 || c.MaxViews != 10000 || c.MaxInFlight != 100 || c.Send != "full" {
		t.Errorf("%+v", c)
	}
	for _, c := range []poll.Config{
		{Interval: caddy.Duration(99 * time.Millisecond)}, {Interval: -1}, {Timeout: -1}, {MaxBody: -1}, {MaxViews: -1}, {Send: "ful"},
		{Max: second}, {MaxInFlight: -1}, {Send: "items"}, {SendArgument: "id"}, {Send: "jq", SendArgument: "{"}, {Select: "{"}, {Until: "{"},
		{Refresh: []string{"checkout"}}, {Refresh: []string{"/a/*"}}, {Refresh: []string{"/a"}, RefreshOff: true},
	} {
		if err := c.Provision(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	c = poll.Config{Interval: caddy.Duration(100 * time.Millisecond), Linger: -1}
	if err := c.Provision(); err != nil || c.Linger != -1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestThousandViewersCostOnePollPerInterval(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		for i := range 1000 {
			e.start(newRequest("/doc"), new(caller), "")
			if i%10 == 0 {
				advance(50 * time.Millisecond)
			}
		}
		advance(time.Minute - 5*time.Second - 1)
		if e.polls() != 30 || e.Views() != 1 {
			t.Errorf("%d polls within a minute, of %d views", e.polls(), e.Views())
		}
		e.set(document("2"))
		advance(2 * time.Second)
		for _, v := range e.viewers {
			v.want(t, "1", "2")
		}
	})
}

func TestPollingStopsAfterLinger(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		a, b := e.subscribe(newRequest("/doc")), e.subscribe(newRequest("/doc"))
		advance(9 * time.Second)
		a.leave()
		advance(20 * time.Second)
		b.leave() // after 29 s: polled until 59 s
		advance(30*time.Second - 1)
		if e.polls() != 30 || e.Views() != 1 {
			t.Errorf("%d polls while it lingers, %d views", e.polls(), e.Views())
		}
		advance(time.Hour)
		if e.polls() != 30 || e.Views() != 0 {
			t.Errorf("%d polls at last, %d views", e.polls(), e.Views())
		}
	})
}

func TestReturningViewerRestartsLinger(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		for range 5 {
			e.subscribe(newRequest("/doc")).leave()
			advance(29 * time.Second)
		}
		if e.Views() != 1 {
			t.Errorf("%d views", e.Views())
		}
		v := e.subscribe(newRequest("/doc"))
		advance(time.Hour)
		if e.Views() != 1 {
			t.Errorf("%d views while there is a viewer", e.Views())
		}
		v.want(t, "1")
	})
}

func TestNegativeLingerEndsViewAtOnce(t *testing.T) {
	within(t, poll.Config{Linger: -1}, func(e *env) {
		e.subscribe(newRequest("/doc")).leave()
		if e.Views() != 0 {
			t.Errorf("%d views", e.Views())
		}
		advance(time.Minute)
		if e.polls() != 1 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

func TestOnlyFirstViewersWaitForPoll(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.take(3 * time.Second)
		first := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		second := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		first.want(t)
		advance(2 * time.Second)
		third := e.subscribe(newRequest("/doc"))
		for v, at := range map[*viewer]time.Duration{first: 3 * time.Second, second: 3 * time.Second, third: 4 * time.Second} {
			v.want(t, "1")
			if v.at[0] != at {
				t.Errorf("it came after %v, want %v", v.at[0], at)
			}
		}
		if e.polls() != 1 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

func TestViewerThatLeavesWhileWaitingEndsView(t *testing.T) {
	within(t, poll.Config{Linger: -1}, func(e *env) {
		e.take(5 * time.Second)
		v := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		v.leave()
		if v.err == nil || e.Views() != 0 {
			t.Errorf("%v, %d views", v.err, e.Views())
		}
		advance(time.Second)
		if e.running != 0 {
			t.Error("the poll goes on")
		}
	})
}

func TestUnchangedDocumentIsNotSentAgain(t *testing.T) {
	for name, again := range map[string]*subrequest.Response{
		"the same":           document(`{"a": [1, 2.50]}`),
		"other white space":  document("{\n  \"a\":[1,2.50]}\n"),
		"another type":       document(`{"a": [1, 2.50]}`, "Content-Type", "text/plain"),
		"another entity tag": document(`{"a": [1, 2.50]}`, "ETag", `"2"`),
		"304":                status(http.StatusNotModified),
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document(`{"a": [1, 2.50]}`, "ETag", `"1"`))
			v := e.subscribe(newRequest("/doc"))
			e.set(again)
			advance(time.Minute)
			v.want(t, `{"a":[1,2.50]}`)
			if e.polls() < 30 {
				t.Errorf("%s: %d polls", name, e.polls())
			}
		})
	}
}

func TestPollSendsETagBack(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(document("1", "ETag", `W/"1"`))
		v := e.subscribe(newRequest("/doc"))
		if tag, sent := e.last().Header["If-None-Match"]; sent {
			t.Errorf("%q is sent the first time", tag)
		}
		advance(3 * time.Second)
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("If-None-Match") != `W/"1"` {
				t.Errorf("%q is sent", r.Header.Get("If-None-Match"))
			}
			return status(http.StatusNotModified), nil
		})
		advance(5 * time.Second)
		e.set(document("2"))
		advance(4 * time.Second)
		if tag, sent := e.last().Header["If-None-Match"]; sent {
			t.Errorf("%q is sent though the document has none now", tag)
		}
		v.want(t, "1", "2")
	})
}

func TestFirstPollsRefusalReachesClientUnchanged(t *testing.T) {
	for _, code := range []int{204, 301, 400, 401, 403, 404, 410, 451} {
		within(t, poll.Config{}, func(e *env) {
			want := &subrequest.Response{Status: code, Header: http.Header{"Www-Authenticate": {"Basic"}}, Body: []byte("no")}
			e.set(want)
			e.take(time.Second)
			a, b := e.subscribe(newRequest("/doc")), e.subscribe(newRequest("/doc"))
			advance(time.Second)
			for _, v := range []*viewer{a, b} {
				if v.refused != want || v.err != nil {
					t.Errorf("%d: %+v, %v", code, v.refused, v.err)
				}
			}
			if e.Views() != 0 {
				t.Errorf("%d: a view is left", code)
			}
			e.set(document("1"))
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			v.want(t, "1")
			if e.polls() != 2 {
				t.Errorf("%d: %d polls", code, e.polls())
			}
		})
	}
}

func TestFailingBackendSendsStaleOnce(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(e *env)
		want int
	}{
		"408":         {func(e *env) { e.set(status(408)) }, 408},
		"425":         {func(e *env) { e.set(status(425)) }, 425},
		"429":         {func(e *env) { e.set(status(429)) }, 429},
		"500":         {func(e *env) { e.set(status(500)) }, 500},
		"503":         {func(e *env) { e.set(status(503)) }, 503},
		"599":         {func(e *env) { e.set(status(599)) }, 599},
		"an error":    {func(e *env) { e.setError(errRefused) }, 502},
		"broken off":  {func(e *env) { e.setError(subrequest.ErrAborted) }, 502},
		"too slow":    {func(e *env) { e.take(time.Hour) }, 504},
		"too large":   {func(e *env) { e.setError(subrequest.ErrTooLarge) }, 502},
		"not a route": {func(e *env) { e.setError(subrequest.ErrNoResponse) }, 502},
	} {
		within(t, poll.Config{}, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			c.fail(e)
			advance(time.Minute)
			v.want(t, "1", "stale")
			data := string(v.events()[1].Data)
			if !strings.Contains(data, fmt.Sprintf(`"status":%d,`, c.want)) || strings.Contains(data, "connection refused") {
				t.Errorf("%s: %s", name, data)
			}
			late := e.subscribe(newRequest("/doc"))
			late.want(t, "1", "stale")
			e.take(0)
			e.set(document("1"))
			advance(time.Minute)
			v.want(t, "1", "stale", "1")
			late.want(t, "1", "stale", "1")
			c.fail(e)
			advance(time.Minute)
			v.want(t, "1", "stale", "1", "stale")
		})
	}
}

func TestConfirmedDocumentEndsStale(t *testing.T) {
	for name, c := range map[string]struct {
		resp *subrequest.Response
		want string
	}{
		"304":               {status(http.StatusNotModified), "[1]"},
		"the same":          {document("[1]"), "[1]"},
		"other white space": {document("[ 1 ]"), "[1]"},
		"changed":           {document("[2]"), "[2]"},
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document("[1]", "ETag", "x"))
			v := e.subscribe(newRequest("/doc"))
			e.set(status(503))
			advance(3 * time.Second)
			e.set(c.resp)
			advance(10 * time.Second)
			if got := v.got(); !slices.Equal(got, []string{"[1]", "stale", c.want}) {
				t.Errorf("%s: %q", name, got)
			}
			late := e.subscribe(newRequest("/doc"))
			late.want(t, c.want)
		})
	}
}

func TestBackendDownOnFirstPollStartsStaleStream(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setError(errRefused)
		v := e.subscribe(newRequest("/doc"))
		v.want(t, "stale")
		if data := string(v.events()[0].Data); !strings.Contains(data, `"since":"2000-01-01T00:00:00Z","status":502,"reason":"Bad Gateway"`) {
			t.Error(data)
		}
		advance(time.Minute)
		e.set(document("1"))
		advance(time.Minute)
		v.want(t, "stale", "1")
	})
}

func TestPollsOfOneViewNeverOverlap(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.take(5 * time.Second)
		e.subscribe(newRequest("/doc"))
		for range 60 {
			advance(time.Second)
			e.Invalidate("example.com", "/doc")
		}
		if e.overlaps > 0 {
			t.Errorf("%d overlap", e.overlaps)
		}
	})
	within(t, poll.Config{}, func(e *env) {
		e.take(5 * time.Second)
		e.subscribe(newRequest("/doc"))
		advance(30 * time.Second)
		if want := []time.Duration{0, 7 * time.Second, 14 * time.Second, 21 * time.Second, 28 * time.Second}; !slices.Equal(e.at, want) {
			t.Errorf("a backend that is slower than the interval is polled at %v, want %v", e.at, want)
		}
	})
}

func TestPollTimesOut(t *testing.T) {
	within(t, poll.Config{Timeout: 4 * second}, func(e *env) {
		e.take(time.Hour)
		v := e.subscribe(newRequest("/doc"))
		advance(4*time.Second - 1)
		v.want(t)
		advance(1)
		v.want(t, "stale")
	})
}

func TestRemovedDocumentSendsGone(t *testing.T) {
	for code, want := range map[int][]string{
		404: {"1", "gone"}, 410: {"1", "gone"},
		401: {"1"}, 403: {"1"}, 400: {"1"}, 204: {"1"}, 301: {"1"},
	} {
		within(t, poll.Config{}, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			e.set(status(code))
			advance(3 * time.Second)
			v.want(t, want...)
			if !v.hasEnded() || e.Views() != 0 {
				t.Errorf("%d: ended: %v, %d views", code, v.ended, e.Views())
			}
			if n := len(want); n == 2 && string(v.events()[1].Data) != fmt.Sprintf(`{"status":%d}`, code) {
				t.Errorf("%s", v.events()[1].Data)
			}
			polls := e.polls()
			advance(time.Minute)
			if e.polls() != polls {
				t.Errorf("%d: it is still polled", code)
			}
			back := e.resume(newRequest("/doc"), v.lastID())
			if back.refused == nil || back.refused.Status != code {
				t.Errorf("%d: the reconnecting viewer gets %+v", code, back.refused)
			}
		})
	}
}

func TestFullRuleRefusesNewView(t *testing.T) {
	within(t, poll.Config{MaxViews: 2}, func(e *env) {
		a, _ := e.subscribe(newRequest("/a")), e.subscribe(newRequest("/b"))
		c := e.subscribe(newRequest("/c"))
		var refused *refusal.Error
		if !errors.As(c.err, &refused) || refused.Status != 503 || refused.RetryAfter <= 0 {
			t.Errorf("%v", c.err)
		}
		again := e.subscribe(newRequest("/b"))
		again.want(t, "1")
		a.leave()
		advance(time.Minute)
		c = e.subscribe(newRequest("/c"))
		c.want(t, "1")
	})
}

func TestUnpollableDocumentRefusesFirstViewer(t *testing.T) {
	for _, err := range []error{subrequest.ErrNoResponse, fmt.Errorf("%w: more than 5 bytes", subrequest.ErrTooLarge)} {
		within(t, poll.Config{}, func(e *env) {
			e.setError(err)
			v := e.subscribe(newRequest("/doc"))
			var r *refusal.Error
			if !errors.As(v.err, &r) || r.Status != 502 || !strings.Contains(r.Reason, err.Error()) || !errors.Is(v.err, err) || v.refused != nil {
				t.Errorf("%v: %+v, %+v", err, v.err, v.refused)
			}
			if e.Views() != 0 {
				t.Errorf("%v: a view is left", err)
			}
		})
	}
}

func TestEventStreamOfBackendPassesThrough(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.take(time.Second)
		e.setError(fmt.Errorf("asking: %w", subrequest.ErrEventStream))
		a, b := e.subscribe(newRequest("/doc")), e.subscribe(newRequest("/doc"))
		advance(time.Second)
		for _, v := range []*viewer{a, b} {
			if !errors.Is(v.err, subrequest.ErrEventStream) || v.refused != nil || len(v.entries) > 0 {
				t.Errorf("%v, %+v, %q", v.err, v.refused, v.got())
			}
		}
		if e.Views() != 0 || e.polls() != 1 {
			t.Errorf("%d views are left after %d polls", e.Views(), e.polls())
		}
		e.set(document("1"))
		back := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		back.want(t, "1")
		e.setError(subrequest.ErrEventStream) // the poller can't pass on a stream to present viewers
		advance(10 * time.Second)
		back.want(t, "1", "stale")
	})
}

func TestBodiesBecomeEventData(t *testing.T) {
	for _, c := range []struct{ contentType, body, want string }{
		{"application/json", "{\n \"b\": 1.00, \"a\": 12345678901234567890, \"c\": 1e400, \"b\": \"\\u00e9 \\/\" }\n", `{"b":1.00,"a":12345678901234567890,"c":1e400,"b":"\u00e9 \/"}`},
		{"", "[ 1 ]", "[1]"},
		{"text/plain", `{"broken": `, `{"broken": `},
		{"text/plain", "line 1\n  line 2\n", "line 1\n  line 2\n"},
		{"text/html", "<p>\n", "<p>\n"},
		{"text/plain", "", ""},
		{"image/png; x=y", "\x89PNG", `{"type":"image/png","base64":"iVBORw=="}`},
		{"", "\xff", `{"type":"","base64":"/w=="}`},
		{"text/plain; charset=latin1", "caf\xe9", `{"type":"text/plain","base64":"Y2Fm6Q=="}`},
		{"application/json", "\"\xff\"", "\"\ufffd\""},
		{"not a type", "\xff", `{"type":"not a type","base64":"/w=="}`},
		{"application/json", "\"\u2028\"", `"\u2028"`}, // some readers take it for a line's end
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document(c.body, "Content-Type", c.contentType))
			v := e.subscribe(newRequest("/doc"))
			if events := v.events(); len(events) != 1 || string(events[0].Data) != c.want {
				t.Errorf("%q (%s) is %+v, want %q", c.body, c.contentType, events, c.want)
			}
		})
	}
}

func TestInvalidationPollsAtOnce(t *testing.T) {
	for path, related := range map[string]bool{
		"/shop/orders":      true,
		"/shop/orders/":     true,
		"/shop/orders/42":   true,
		"/shop/orders/42/x": true,
		"/shop":             true,
		"/shop/":            true,
		"/":                 false,
		"/shop/ordersx":     false,
		"/shop/order":       false,
		"/shop/customers":   false,
		"/sho":              false,
		"/SHOP/orders":      false,
	} {
		within(t, poll.Config{Interval: 60 * second}, func(e *env) {
			v := e.subscribe(newRequest("/shop/orders?page=2"))
			advance(time.Second)
			e.set(document("2"))
			e.Invalidate("example.com", "/elsewhere", path)
			synctest.Wait()
			if want := map[bool][]string{true: {"1", "2"}, false: {"1"}}[related]; !slices.Equal(v.got(), want) {
				t.Errorf("a write to %s: got %q", path, v.got())
			}
		})
	}
}

func TestInvalidationIgnoresOtherHosts(t *testing.T) {
	within(t, poll.Config{Interval: 60 * second}, func(e *env) {
		e.subscribe(newRequest("http://Shop.example.com:8443/doc"))
		advance(time.Second)
		e.Invalidate("example.com", "/doc")
		e.Invalidate("shop.example.com:8443", "/doc")
		synctest.Wait()
		if e.polls() != 1 {
			t.Errorf("%d polls", e.polls())
		}
		e.Invalidate(poll.Hostname("SHOP.example.com:80"), "/doc")
		synctest.Wait()
		if e.polls() != 2 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

func TestHostnameDropsPort(t *testing.T) {
	for host, want := range map[string]string{
		"": "", "example.com": "example.com", "Example.COM:443": "example.com", "[::1]:80": "::1", "127.0.0.1:80": "127.0.0.1",
	} {
		if got := poll.Hostname(host); got != want {
			t.Errorf("%q: %q", host, got)
		}
	}
}

func TestBurstOfInvalidationsCostsTwoPolls(t *testing.T) {
	within(t, poll.Config{Interval: 60 * second}, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.take(time.Second)
		for range 500 {
			e.Invalidate("example.com", "/doc")
			time.Sleep(time.Millisecond)
		}
		advance(30 * time.Second)
		if e.polls() != 3 {
			t.Errorf("%d polls, want the first and two more", e.polls())
		}
	})
}

func TestInvalidationDuringPollCausesAnotherPoll(t *testing.T) {
	within(t, poll.Config{Interval: 60 * second}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.take(time.Second)
		e.Invalidate("example.com", "/doc")
		advance(500 * time.Millisecond)
		e.set(document("2"))
		e.Invalidate("example.com", "/doc")
		advance(500 * time.Millisecond)
		v.want(t, "1")
		advance(time.Second)
		v.want(t, "1", "2")
	})
}

func TestInvalidationRestartsInterval(t *testing.T) {
	within(t, poll.Config{Interval: 10 * second}, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(7 * time.Second)
		e.Invalidate("example.com", "/doc")
		advance(20 * time.Second)
		if want := []time.Duration{0, 7 * time.Second, 17 * time.Second, 27 * time.Second}; !slices.Equal(e.at, want) {
			t.Errorf("%v", e.at)
		}
	})
}

func TestCurrentViewerGetsNothingOnReconnect(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		a := e.subscribe(newRequest("/doc"))
		back := e.resume(newRequest("/doc"), a.lastID())
		back.want(t)
		e.set(document("2"))
		advance(2 * time.Second)
		back.want(t, "2")
	})
}

func TestViewerOfOlderDocumentGetsMissedEvents(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		a := e.subscribe(newRequest("/doc"))
		id := a.lastID()
		for _, body := range []string{"2", "3"} {
			e.set(document(body))
			advance(2 * time.Second)
		}
		e.set(status(500))
		advance(2 * time.Second)
		back := e.resume(newRequest("/doc"), id)
		back.want(t, "2", "3", "stale")
	})
}

func TestPositionOfAnotherViewGivesOwnDocumentWithoutReset(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		b := e.subscribe(newRequest("/b"))
		e.set(document("a"))
		a := e.subscribe(newRequest("/a"))
		e.resume(newRequest("/a"), b.lastID()).want(t, "a")
		e.resume(newRequest("/b"), a.lastID()).want(t, "1")
		e.resume(newRequest("/b", "Authorization", "x"), a.lastID()).want(t, "a")
	})
}

func TestIDOfAnotherTopicSendsResetLikeUnknownOne(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		if _, _, err := e.hub.Publish([]string{"orders"}, event.Event{ID: "order-1001-paid"}); err != nil {
			e.t.Fatal(err)
		}
		for _, id := range []string{"order-9999-paid", "order-1001-paid"} {
			e.resume(newRequest("/doc"), id).want(t, "reset", "1")
		}
	})
}

func TestLostPositionSendsResetAndDocument(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		lost := v.lastID()
		e.set(document("2"))
		advance(2 * time.Second)
		for range 3 {
			if _, _, err := e.hub.Publish([]string{"busy"}, event.Event{}); err != nil {
				e.t.Fatal(err)
			}
		}
		e.hub.SetHistory(store.History{MaxEvents: 2})
		for _, id := range []string{lost, "garbage", e.hub.Position(1 << 40)} {
			e.resume(newRequest("/doc"), id).want(t, "reset", "2")
		}
		newest := e.resume(newRequest("/doc"), v.lastID()) // has left the history too, but is all that there is
		newest.want(t)
		e.set(document("3"))
		advance(2 * time.Second)
		newest.want(t, "3")
	})
}

// A connection may break between the reset and a long document.
func TestReconnectAfterResetGetsDocument(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		v := e.resume(newRequest("/doc"), "garbage")
		v.want(t, "reset", "1")
		id := cmp.Or(v.events()[0].ID, "garbage") // without one, it is what it was
		back := e.resume(newRequest("/doc"), id)
		if got := back.got(); len(got) == 0 || got[len(got)-1] != "1" {
			t.Errorf("it got %q", got)
		}
	})
}

func TestRestartDoesNotResendUnchangedDocument(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		id := v.lastID()
		v.leave()
		advance(time.Hour)
		if e.Views() != 0 {
			e.t.Fatal("the view lingers")
		}
		e.resume(newRequest("/doc"), id).want(t)
		e.subscribe(newRequest("/doc")).want(t, "1")
	})
}

func TestReturningViewerGetsDocumentChangedMeanwhile(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		id := v.lastID()
		v.leave()
		advance(time.Hour)
		e.set(document("2"))
		e.resume(newRequest("/doc"), id).want(t, "2")
	})
}

func TestNextConfigurationContinuesView(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		c := poll.Config{}
		if err := c.Provision(); err != nil {
			e.t.Fatal(err)
		}
		old := e.Poller
		old.Retire()
		e.Poller = poll.New(&c, e.hub, zap.NewNop(), nil)
		e.resume(newRequest("/doc"), v.lastID()).want(t)
		v.leave()
		synctest.Wait()
		if !old.Done() {
			t.Error("the old view is still polled")
		}
	})
}

func TestRetiredPollerEndsWithLastViewer(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		lingering, v := e.subscribe(newRequest("/a")), e.subscribe(newRequest("/b"))
		lingering.leave()
		if e.Done() {
			t.Error("it is over before it is retired")
		}
		e.Retire()
		if e.Views() != 1 || e.Done() {
			t.Errorf("%d views, over: %v", e.Views(), e.Done())
		}
		e.set(document("2"))
		advance(2 * time.Second)
		v.want(t, "1", "2")
		v.leave()
		if !e.Done() {
			t.Error("it is not over")
		}
	})
}

func TestCloseIsIdempotent(t *testing.T) {
	within(t, poll.Config{Linger: -1}, func(e *env) {
		stays := e.subscribe(newRequest("/doc"))
		viewing, refused, err := e.Subscribe(newRequest("/doc"), &caller{backend: e.backend})
		if err != nil || refused != nil {
			e.t.Fatal(err, refused)
		}
		viewing.Close()
		viewing.Close()
		if e.Views() != 1 {
			t.Error("the other viewer's view has ended")
		}
		e.set(document("2"))
		advance(2 * time.Second)
		stays.want(t, "1", "2")
	})
}

func TestHandlerPanicMakesDocumentStale(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		var panics atomic.Bool
		handler := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if panics.Load() {
				panic("a mistake")
			}
			_, err := fmt.Fprint(w, "1")
			return err
		})
		r := caddyhttp.PrepareRequest(newRequest("/doc"), caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
		viewing, refused, err := e.Subscribe(r, subrequest.New(r, handler))
		if err != nil || refused != nil {
			e.t.Fatal(err, refused)
		}
		defer viewing.Close()
		v := e.subscribeAs(newRequest("/doc"), &caller{original: "/doc"}, "")
		panics.Store(true)
		advance(2 * time.Second)
		v.want(t, "1", "stale")
	})
}

// A handler may change its request; the next poll's request is as the first.
func TestEachPollIsSeparateRequest(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.URL.Path != "/doc" || r.Header.Get("X-Key") != "k" || len(r.Header["X-Key"]) != 1 || r.Header.Get("X-New") != "" || r.Host != "example.com" {
				t.Errorf("%s %s %v", r.Host, r.URL, r.Header)
			}
			r.URL.Path, r.Host = "/rewritten", "backend"
			r.Header["X-Key"][0] = "overwritten"
			r.Header.Add("X-Key", "another")
			r.Header.Set("X-New", "1")
			return document("1"), nil
		})
		e.subscribe(newRequest("/doc", "X-Key", "k"))
		advance(10 * time.Second)
		if e.polls() != 6 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

// flakyStore is a store that rejects events while it is broken.
type flakyStore struct {
	*store.Memory
	broken      atomic.Bool
	afterAppend func()
}

func (s *flakyStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	if s.broken.Load() {
		return errors.New("disk full")
	}
	err := s.Memory.Append(entries, records)
	if s.afterAppend != nil {
		s.afterAppend()
	}
	return err
}

func TestUnstoredDocumentIsSentLater(t *testing.T) {
	for name, tag := range map[string]string{"with an entity tag": `"2"`, "without": ""} {
		s := &flakyStore{Memory: store.NewMemory()}
		withinStore(t, poll.Config{}, s, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			s.broken.Store(true)
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				if tag != "" && r.Header.Get("If-None-Match") == tag {
					return status(http.StatusNotModified), nil
				}
				return document("2", "ETag", tag), nil
			})
			advance(10 * time.Second)
			s.broken.Store(false)
			advance(time.Minute)
			if got := v.got(); !slices.Equal(got, []string{"1", "2"}) {
				t.Errorf("%s: %q", name, got)
			}
		})
	}
}

func TestViewerJoiningDuringOutagesGetsDocumentLater(t *testing.T) {
	s := &flakyStore{Memory: store.NewMemory()}
	withinStore(t, poll.Config{Linger: -1}, s, func(e *env) {
		e.subscribe(newRequest("/doc")).leave()
		s.broken.Store(true)
		e.set(status(500))
		v := e.subscribe(newRequest("/doc"))
		v.want(t)
		s.broken.Store(false)
		e.set(document("1"))
		advance(time.Minute)
		v.want(t, "1")
	})
}

func TestUnstoredStaleEventIsSentLater(t *testing.T) {
	s := &flakyStore{Memory: store.NewMemory()}
	withinStore(t, poll.Config{}, s, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		s.broken.Store(true)
		e.set(status(500))
		advance(time.Minute)
		s.broken.Store(false)
		advance(time.Minute)
		v.want(t, "1", "stale")
		s.broken.Store(true)
		e.set(document("1"))
		advance(time.Minute)
		s.broken.Store(false)
		advance(time.Minute)
		v.want(t, "1", "stale", "1")
	})
}

// A viewer that joins during a publish gets the document either way.
func TestViewerJoiningDuringPublishMissesNothing(t *testing.T) {
	s := &flakyStore{Memory: store.NewMemory()}
	c := poll.Config{Interval: caddy.Duration(100 * time.Millisecond)}
	e := newEnv(t, c, s) // in real time: a goroutine that waits for a lock stops fake time
	viewing, refused, err := e.Subscribe(newRequest("/doc"), &caller{backend: e.backend})
	if err != nil || refused != nil {
		t.Fatal(err, refused)
	}
	joined := make(chan stream.Source, 1)
	s.afterAppend = func() {
		s.afterAppend = nil
		src := make(chan stream.Source, 1)
		go func() { src <- viewing.Source("") }()
		select {
		case got := <-src:
			joined <- got
		case <-time.After(20 * time.Millisecond): // it waits until all is done
			go func() { joined <- <-src }()
		}
	}
	e.set(document("2"))
	e.Invalidate("example.com", "/doc")
	src := <-joined
	for last := ""; last != "2"; { // until all is done
		later := viewing.Source("")
		later.Cursor.Close()
		last = dataOf(later.Initial)
	}
	entries, err := src.Cursor.Next(1000, src.Initial)
	if got := dataOf(entries); got != "2" || err != nil {
		t.Errorf("it has %q, %v", got, err)
	}
	src.Cursor.Close()
	viewing.Close()
	e.Retire()
	if err := e.hub.Close(); err != nil {
		t.Error(err)
	}
}

// dataOf returns the data of the last entry.
func dataOf(entries []*store.Entry) string {
	if len(entries) == 0 {
		return ""
	}
	frame := string(entries[len(entries)-1].Frame.WithoutID())
	return strings.TrimSuffix(strings.TrimPrefix(frame, "data: "), "\n\n")
}

func TestOrderOfMembersIsNoChange(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(asJSON(`{"a":1,"b":[2.0]}`))
		v := e.subscribe(newRequest("/doc"))
		e.set(asJSON(`{ "b": [2], "a": 1 }`))
		advance(3 * time.Second)
		v.want(t, `{"a":1,"b":[2.0]}`)
	})
}
