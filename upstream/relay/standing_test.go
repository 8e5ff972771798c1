package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

// upstream answers the requests for standing feeds, in the bubble of a test.
type upstream struct {
	mu       sync.Mutex
	requests []*http.Request
	times    []time.Time
	answer   func(n int, r *http.Request) (*http.Response, error) // n counts from 1
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.requests, u.times = append(u.requests, r), append(u.times, time.Now())
	n := len(u.requests)
	u.mu.Unlock()
	return u.answer(n, r)
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// pauses returns the times between the requests.
func (u *upstream) pauses() (pauses []time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := 1; i < len(u.times); i++ {
		pauses = append(pauses, u.times[i].Sub(u.times[i-1]))
	}
	return pauses
}

// lastEventIDs returns those of the requests.
func (u *upstream) lastEventIDs() (ids []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.requests {
		ids = append(ids, r.Header.Get("Last-Event-ID"))
	}
	return ids
}

// respond returns a response that ends.
func respond(status int, contentType, body string, header ...string) (*http.Response, error) {
	resp := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp, nil
}

const sse = "text/event-stream"

// stays returns an event stream that begins with a text and stays open until the
// request is cancelled.
func stays(r *http.Request, text string) (*http.Response, error) {
	reader, writer := io.Pipe()
	go func() {
		_, _ = io.WriteString(writer, text)
		<-r.Context().Done()
		writer.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {sse}}, Body: reader}, nil
}

type nothingCounted struct{ repeated int }

func (*nothingCounted) Requested(relay.Result) {}
func (*nothingCounted) Published(int)          {}
func (o *nothingCounted) Repeated(n int)       { o.repeated += n }

// bench is a hub whose standing feeds an upstream answers.
type bench struct {
	t        *testing.T
	hub      *hub.Hub
	feeds    *relay.StandingFeeds
	upstream *upstream
	counted  *nothingCounted
	logs     *observer.ObservedLogs
	log      *zap.Logger
}

func newBench(t *testing.T, answer func(n int, r *http.Request) (*http.Response, error)) *bench {
	core, logs := observer.New(zapcore.DebugLevel)
	b := &bench{
		t: t, hub: hub.New(store.NewMemory(), store.History{MaxEvents: 1000}), feeds: new(relay.StandingFeeds),
		upstream: &upstream{answer: answer}, counted: new(nothingCounted), logs: logs, log: zap.New(core),
	}
	t.Cleanup(func() {
		if err := b.hub.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// start starts a rule; its URL is http://feeds.test/a unless the configuration has some.
func (b *bench) start(c relay.StandingConfig) *relay.StandingRule {
	b.t.Helper()
	if len(c.URLs) == 0 {
		c.URLs = []string{"http://feeds.test/a"}
	}
	if err := c.Provision(caddy.NewReplacer()); err != nil {
		b.t.Fatal(err)
	}
	r := &relay.StandingRule{
		Config: &c, Hub: b.hub, Feeds: b.feeds, Rule: "relay", Transport: b.upstream, Site: b.upstream, Log: b.log, Observer: b.counted,
	}
	r.Prepare()
	r.Start()
	return r
}

// published returns the data of all events in the history, with their names if they
// have some.
func (b *bench) published() (data []string) {
	b.t.Helper()
	for seq := uint64(1); seq <= b.hub.Head(); seq++ {
		e, err := eventtest.NewDecoder(strings.NewReader(string(b.hub.Entry(seq).Frame)), 0).Next()
		if err != nil {
			b.t.Fatal(err)
		}
		switch e.Name {
		case "":
			data = append(data, string(e.Data))
		case "stale", "fresh":
			data = append(data, e.Name)
		default:
			data = append(data, e.Name+" "+string(e.Data))
		}
	}
	return data
}

func (b *bench) expect(want ...string) {
	b.t.Helper()
	if got := b.published(); !slices.Equal(got, want) {
		b.t.Errorf("published %q, want %q", got, want)
	}
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errDown = errors.New("connection refused")

func TestStandingFeedIsConnectedAgainForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			switch {
			case n <= 8 || n == 10:
				return nil, errDown
			case n == 9: // works, and breaks off
				resp, err := respond(http.StatusOK, sse, "")
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("data: 1\n\n"), brokenReader{}))
				return resp, err
			default: // a clean end
				return respond(http.StatusOK, sse, "retry: 10000\n\n")
			}
		})
		r := b.start(relay.StandingConfig{})
		wait(10 * time.Minute)
		r.Stop()
		for i, p := range b.upstream.pauses() {
			least := []int{3, 6, 12, 24, 30, 30, 30, 30, 3, 6}
			want := 10 * time.Second
			if i < len(least) {
				want = time.Duration(least[i]) * time.Second
			}
			if p < want || p > want*3/2+time.Millisecond {
				t.Errorf("pause %d is %v, want %v and up to a half more", i+1, p, want)
			}
		}
		b.expect("stale", "fresh", "1", "stale", "fresh")
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestStandingFeedContinuesAfterItsLastEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			switch n {
			case 1:
				return respond(http.StatusOK, sse, "id: 1 é\ndata: a\n\nid: 2\ndata: b\n\ndata: c\n\n")
			case 2: // it repeats events, and has changed one
				return respond(http.StatusOK, sse, "id: 1 é\ndata: a\n\nid: 2\ndata: B\n\nid: 3\ndata: d\n\ndata: c\n\n")
			default:
				return stays(r, "id: 3\ndata: d\n\nid: 4\ndata: e\n\n")
			}
		})
		r := b.start(relay.StandingConfig{})
		wait(time.Minute)
		b.expect("a", "b", "c", "B", "d", "c", "e")
		r.Stop()
		again := b.start(relay.StandingConfig{}) // as after a restart
		wait(time.Minute)
		again.Stop()
		if got, want := b.upstream.lastEventIDs(), []string{"", "2", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("the feed got the positions %q, want %q", got, want)
		}
		b.expect("a", "b", "c", "B", "d", "c", "e")
		if b.counted.repeated != 4 {
			t.Errorf("%d events count as repeated, want 4", b.counted.repeated)
		}
	})
}

// Some feeds use ids for something else than positions.
func TestEqualEventsOfOneConnectionAreAllPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			return stays(r, strings.Repeat("id: order-42\ndata: open\n\n", 2)+"id:\ndata: x\n\n")
		})
		r := b.start(relay.StandingConfig{})
		wait(time.Second)
		r.Stop()
		b.expect("open", "open", "x")
	})
}

func TestResponseThatIsNoFeedIsAskedForRarelyAndLoggedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		answer func() (*http.Response, error)
		status int
		pause  time.Duration
		log    string
	}{
		"a refusal":   {func() (*http.Response, error) { return respond(403, "text/plain", "no") }, 502, 30 * time.Second, "status 403"},
		"no content":  {func() (*http.Response, error) { return respond(204, "", "") }, 502, 30 * time.Second, "status 204"},
		"a page":      {func() (*http.Response, error) { return respond(200, "text/html", "<p>") }, 502, 30 * time.Second, "Content-Type"},
		"a coding":    {func() (*http.Response, error) { return respond(200, sse, "", "Content-Encoding", "gzip") }, 502, 30 * time.Second, "Content-Encoding"},
		"a redirect":  {func() (*http.Response, error) { return respond(302, "", "", "Location", "http://127.0.0.1:2019/") }, 502, 30 * time.Second, "redirects"},
		"retry-after": {func() (*http.Response, error) { return respond(503, "", "", "Retry-After", "600") }, 503, 10 * time.Minute, "status 503"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(int, *http.Request) (*http.Response, error) { return c.answer() })
				r := b.start(relay.StandingConfig{})
				wait(time.Hour)
				r.Stop()
				for _, p := range b.upstream.pauses() {
					if p < c.pause || p > c.pause*3/2+time.Millisecond {
						t.Errorf("a pause of %v, want %v and up to a half more", p, c.pause)
					}
				}
				if b.expect("stale"); !strings.Contains(string(b.hub.Entry(1).Frame), fmt.Sprintf(`"status":%d`, c.status)) {
					t.Errorf("%s", b.hub.Entry(1).Frame)
				}
				if lines := b.logs.All(); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()), c.log) {
					t.Errorf("the log has %v", lines)
				}
			})
		})
	}
}

func TestRedirectsStayAtTheOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/a" {
				return respond(307, "", "", "Location", "/b")
			}
			return stays(r, "data: "+r.Header.Get("Authorization")+"\n\n")
		})
		r := b.start(relay.StandingConfig{Headers: map[string]string{"Authorization": "Bearer a"}})
		wait(time.Second)
		r.Stop()
		b.expect("Bearer a")
	})
}

func TestSilentFeedIsLeft(t *testing.T) {
	for timeout, want := range map[time.Duration][]string{0: {"1"}, 40 * time.Second: {"1", "stale", "fresh"}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
				if n > 1 {
					return stays(r, "")
				}
				reader, writer := io.Pipe()
				go func() {
					_, _ = io.WriteString(writer, "data: 1\n\n")
					for range 4 { // two minutes with comments
						time.Sleep(30 * time.Second)
						_, _ = io.WriteString(writer, ":\n")
					}
					<-r.Context().Done()
					writer.CloseWithError(r.Context().Err())
				}()
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {sse}}, Body: reader}, nil
			})
			r := b.start(relay.StandingConfig{Timeout: caddy.Duration(timeout)})
			wait(2*time.Minute + 39*time.Second)
			b.expect("1")
			wait(10 * time.Second)
			r.Stop()
			b.expect(want...)
		})
	}
}

func TestFeedThatDoesNotRespondIsLeftAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		})
		r := b.start(relay.StandingConfig{})
		wait(time.Minute - time.Millisecond)
		b.expect()
		wait(time.Second)
		b.expect("stale")
		if frame := string(b.hub.Entry(1).Frame); !strings.Contains(frame, `"status":504`) {
			t.Errorf("%s", frame)
		}
		r.Stop()
	})
}

func TestFeedOutlivesItsConfigurationUnlessItIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			return stays(r, fmt.Sprintf("id: 7\ndata: %d\n\n", n))
		})
		first := b.start(relay.StandingConfig{})
		other := b.start(relay.StandingConfig{}) // another rule
		second := b.start(relay.StandingConfig{})
		first.Stop()
		other.Stop()
		wait(time.Minute)
		if n := b.upstream.count(); n != 1 {
			t.Errorf("%d requests", n)
		}
		changed := b.start(relay.StandingConfig{Headers: map[string]string{"X-Tenant": "b"}})
		second.Stop()
		wait(time.Second)
		if err := b.upstream.requests[0].Context().Err(); err == nil {
			t.Error("the former feed goes on")
		}
		changed.Stop()
		changed.Stop()
		b.expect("1", "2")
		if got := b.upstream.lastEventIDs(); !slices.Equal(got, []string{"", ""}) {
			t.Errorf("%q", got)
		}
		if list := b.feeds.List(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
}

func TestEventsOfStandingFeedsAreShapedAndGoToTheirTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			if n > 2 {
				return stays(r, "")
			}
			return respond(http.StatusOK, "application/x-ndjson", `{"t":"x","v":[1,2]}`+"\n"+`{"t":"","v":[3]}`+"\n"+`{"t":"y","v":[]}`+"\n"+`{"t":"y","v":[4]}`+"\n")
		})
		r := b.start(relay.StandingConfig{
			URLs: []string{"http://feeds.test/a"}, Topic: "prices/{json.t}", Event: "price", Select: ".v[]",
		})
		wait(time.Second)
		b.expect("price 1", "price 2", "price 4")
		if x, y := b.hub.Last("prices/x"), b.hub.Last("prices/y"); x == nil || y == nil || x.Seq != 2 || y.Seq != 3 {
			t.Errorf("%+v, %+v", x, y)
		}
		wait(time.Minute) // without ids, all that is repeated is new
		r.Stop()
		b.expect("price 1", "price 2", "price 4", "price 1", "price 2", "price 4")
	})
}

func TestEventWithSeveralOutputsIsRecognizedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			return stays(r, "id: "+strings.Repeat("long", 100)+"\ndata: [1,2]\n\n")
		})
		for range 2 {
			r := b.start(relay.StandingConfig{Select: ".[]"})
			wait(time.Second)
			r.Stop()
		}
		b.expect("1", "2")
	})
}

func TestLogOfStandingFeedsHasNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := newBench(t, func(_ int, r *http.Request) (*http.Response, error) {
			if n++; n%2 == 0 {
				return nil, errDown
			}
			return respond(401, "", "")
		})
		r := b.start(relay.StandingConfig{
			URLs:    []string{"http://user:hidden@feeds.test/a?token=hidden"},
			Headers: map[string]string{"X-Key": "hidden"},
		})
		wait(5 * time.Minute)
		info := fmt.Sprintf("%+v", b.feeds.List())
		r.Stop()
		for _, line := range b.logs.All() {
			info += line.Message + fmt.Sprint(line.ContextMap())
		}
		if strings.Contains(info, "hidden") || !strings.Contains(info, "http://feeds.test/a") || !strings.Contains(info, "connection refused") {
			t.Errorf("%s", info)
		}
	})
}

// No URL, header or id of a feed stops the module.
func TestIDThatNoHeaderCanHoldIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) {
			if n > 1 {
				return stays(r, "data: 2\n\n")
			}
			return respond(http.StatusOK, sse, "id: a\x01\ndata: 1\n\n")
		})
		r := b.start(relay.StandingConfig{})
		wait(time.Minute)
		r.Stop()
		b.expect("1", "2")
	})
}

func TestStoreThatFailsHoldsTheFeedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := &failingStore{Memory: store.NewMemory(), fails: true}
		b := newBench(t, func(n int, r *http.Request) (*http.Response, error) { return stays(r, "data: 1\n\n") })
		if err := b.hub.Close(); err != nil {
			t.Fatal(err)
		}
		b.hub = hub.New(failing, store.History{})
		r := b.start(relay.StandingConfig{Timeout: caddy.Duration(2 * time.Second)})
		wait(time.Minute)
		b.expect()
		failing.set(false)
		wait(time.Second)
		b.expect("1")
		failing.set(true)
		r.Stop()
		if n := b.upstream.count(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

type failingStore struct {
	*store.Memory
	mu    sync.Mutex
	fails bool
}

func (s *failingStore) set(fails bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = fails
}

func (s *failingStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails {
		return errors.New("disk full")
	}
	return s.Memory.Append(entries, records)
}

func TestURLsOfStandingFeedsAreChecked(t *testing.T) {
	site := &url.URL{Scheme: "https", Host: "app.example.com"}
	for text, want := range map[string]string{
		"http://feeds.test":            "",
		"https://user:pw@feeds.test/a": "",
		"/feed?x=1":                    "",
		"{env.NO_SUCH_FEED}":           "feed 1",
		"ftp://feeds.test":             "feed 1 is no URL",
		"feeds.test/a":                 "feed 1 is no URL",
		"//feeds.test/a":               "feed 1 is no URL",
		"http:///a":                    "feed 1 is no URL",
		"http://a b/":                  "feed 1 is no URL",
		":":                            "feed 1 is no URL",
	} {
		c := relay.StandingConfig{URLs: []string{text}, Site: site}
		err := c.Provision(caddy.NewReplacer())
		if got := fmt.Sprint(err); (err != nil) != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for host, want := range map[string]string{"": "header_up Host", "*.example.com": "header_up Host"} {
		c := relay.StandingConfig{URLs: []string{"/feed"}, Site: &url.URL{Scheme: "http", Host: host}}
		if err := c.Provision(caddy.NewReplacer()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", host, err)
		}
		c = relay.StandingConfig{URLs: []string{"/feed"}, Site: &url.URL{Scheme: "http", Host: host}, Headers: map[string]string{"Host": "a.example.com"}}
		if err := c.Provision(caddy.NewReplacer()); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	c := relay.StandingConfig{URLs: []string{"http://a.test"}, Headers: map[string]string{"X-Key": "{env.NO_SUCH_KEY}"}}
	if err := c.Provision(caddy.NewReplacer()); err == nil || !strings.Contains(err.Error(), "X-Key") {
		t.Errorf("an empty secret: %v", err)
	}
}
