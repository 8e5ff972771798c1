package relay_test

import (
	"fmt"
	"io"
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

	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

// viewed is a relay whose backend is a function.
type viewed struct {
	t       testing.TB
	hub     *hub.Hub
	feeds   *relay.Feeds
	relay   *relay.Relay
	handler caddyhttp.Handler
}

func newViewed(t testing.TB, c relay.Config, handler caddyhttp.HandlerFunc) *viewed {
	if err := c.Provision(); err != nil {
		t.Fatal(err)
	}
	v := &viewed{t: t, hub: hub.New(store.NewMemory(), store.History{MaxEvents: 10000}), feeds: new(relay.Feeds), handler: handler}
	v.relay = relay.New(&c, v.hub, v.feeds, "relay", zap.NewNop(), new(nothingCounted))
	return v
}

// end ends all feeds.
func (v *viewed) end() {
	v.feeds.Close()
	if err := v.hub.Close(); err != nil {
		v.t.Error(err)
	}
}

// open opens a stream for a GET. It returns nil, and what the client got, if there is
// none.
func (v *viewed) open(header ...string) (*relay.Subscription, *httptest.ResponseRecorder) {
	v.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/live", nil)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	sub, err := v.relay.Open(w, r, subrequest.New(r, v.handler), true)
	if err != nil {
		v.t.Fatal(err)
	}
	return sub, w
}

// received returns the data of the events that a new stream of a subscription has at
// once, and the id of the last one.
func (v *viewed) received(sub *relay.Subscription) (data []string, id string) {
	v.t.Helper()
	src := sub.Source()
	defer src.Cursor.Close()
	entries, err := src.Cursor.Next(1<<20, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, e := range slices.Concat(src.Initial, entries) {
		if src.Wrap != nil {
			e = src.Wrap(e)
		}
		got, err := eventtest.NewDecoder(strings.NewReader(string(e.Frame)), 0).Next()
		if err != nil {
			v.t.Fatal(err)
		}
		text := string(got.Data)
		if got.Name != "" {
			text = got.Name
		}
		data, id = append(data, text), got.ID
	}
	return data, id
}

// stream writes the beginning of an event stream.
func stream(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", sse)
	_, _ = io.WriteString(w, text)
}

func TestViewersFeedIsConnectedAgainWithLongerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		v := newViewed(t, relay.Config{}, func(w http.ResponseWriter, r *http.Request) error {
			switch times = append(times, time.Now()); {
			case len(times) == 1:
				stream(w, "retry: 1000\n\ndata: 1\n\n")
				panic(http.ErrAbortHandler)
			case len(times) <= 8:
				return caddyhttp.Error(http.StatusBadGateway, errDown)
			}
			stream(w, "data: 2\n\n")
			<-r.Context().Done()
			return r.Context().Err()
		})
		sub, _ := v.open()
		wait(10 * time.Minute)
		if data, _ := v.received(sub); !slices.Equal(data, []string{"1", "stale", "2"}) {
			t.Errorf("%q", data)
		}
		sub.Close()
		v.end()
		for i, want := range []time.Duration{2, 4, 8, 16, 30, 30, 30, 30} {
			if i+1 >= len(times) {
				t.Fatalf("%d requests", len(times))
			}
			if got := times[i+1].Sub(times[i]); got != want*time.Second {
				t.Errorf("pause %d is %v, want %v s", i+1, got, int(want))
			}
		}
	})
}

func TestFeedIsReadWithoutViewersForDetachAndKnownForKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		v := newViewed(t, relay.Config{}, func(w http.ResponseWriter, r *http.Request) error {
			requests++
			stream(w, fmt.Sprintf("id: %d\ndata: %d\n\n", requests, requests))
			<-r.Context().Done()
			return r.Context().Err()
		})
		sub, _ := v.open()
		synctest.Wait()
		_, id := v.received(sub)
		sub.Close()
		state := func() string {
			if list := v.feeds.List(); len(list) > 0 {
				return list[0].State
			}
			return "forgotten"
		}
		wait(59 * time.Second)
		if got := state(); got != "detached" || requests != 1 {
			t.Errorf("after 59 s it is %s, %d requests", got, requests)
		}
		wait(2 * time.Minute)
		sub, _ = v.open("Last-Event-ID", id)
		synctest.Wait()
		if data, _ := v.received(sub); !slices.Equal(data, []string{"2"}) || requests != 2 {
			t.Errorf("%q, %d requests", data, requests)
		}
		sub.Close()
		wait(time.Minute + 5*time.Minute + time.Second)
		if got := state(); got != "forgotten" {
			t.Errorf("after keep it is %s", got)
		}
		v.end()
	})
}

func TestFeedWaitsForTheViewerThatItIsAheadOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Int64
		v := newViewed(t, relay.Config{MaxAhead: 1000}, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", sse)
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintf(w, "data: %090d\n\n", written.Load()); err != nil {
					return err
				}
				written.Add(1)
			}
			return nil
		})
		sub, _ := v.open()
		synctest.Wait()
		if n := written.Load(); n < 5 || n > 11 {
			t.Errorf("%d events are read ahead of the viewer", n)
		}
		before := written.Load()
		v.received(sub)
		synctest.Wait()
		if n := written.Load(); n <= before || n > 2*before+2 {
			t.Errorf("after %d events the feed has read %d", before, n)
		}
		sub.Close()
		v.end()
		synctest.Wait()
	})
}

// A JSON response is held back until its first byte tells what it is. It costs the
// same however the white space before that is split.
func TestDocumentAfterMuchWhiteSpacePasses(t *testing.T) {
	const blanks = 1 << 18
	for text, relayed := range map[string]bool{`{"a":1}`: false, "[1]": true, "": false} {
		synctest.Test(t, func(t *testing.T) {
			v := newViewed(t, relay.Config{}, func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Content-Type", "application/json")
				for range blanks {
					_, _ = w.Write([]byte(" "))
				}
				_, err := io.WriteString(w, text)
				return err
			})
			sub, w := v.open()
			if (sub != nil) != relayed || sub == nil && w.Body.Len() != blanks+len(text) {
				t.Errorf("%q: %v, %d bytes", text, sub, w.Body.Len())
			}
			if sub != nil {
				synctest.Wait()
				if data, _ := v.received(sub); !slices.Equal(data, []string{"1", "complete"}) {
					t.Errorf("%q", data)
				}
				sub.Close()
			}
			v.end()
		})
	}
}
