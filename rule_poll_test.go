package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// document is a JSON document that a backend serves, with the requests for it.
type document struct {
	mu         sync.Mutex
	content    string
	status     int
	etag       bool
	requests   int
	unmodified int
	headers    []http.Header
}

func newDocument(content string) *document { return &document{content: content, status: http.StatusOK} }

func (d *document) set(content string) { d.update(func() { d.content = content }) }

func (d *document) update(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *document) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.requests
}

func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		d.content = string(body)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	d.requests++
	d.headers = append(d.headers, r.Header.Clone())
	w.Header().Set("Content-Type", "application/json")
	if d.etag {
		etag := fmt.Sprintf("%q", d.content)
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			d.unmodified++
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(d.status)
	_, _ = io.WriteString(w, d.content)
}

// polled starts a site that polls documents below /api/.
func polled(t *testing.T, poll string, backend http.HandlerFunc) *site {
	t.Helper()
	return startSite(t, "", fmt.Sprintf("sse /api/* {\n poll %s\n }\n reverse_proxy %s", poll, startBackend(t, backend)))
}

func TestDocumentIsStreamedAtOnceAndOnChange(t *testing.T) {
	doc := newDocument(`{"stock": 5}`)
	s := polled(t, "200ms", doc.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			doc.set(`{"stock": 5}`)
			c := s.open(protocol, "/api/inventory/"+protocol)
			c.expect("", `{"stock":5}`)
			doc.set(`{"stock": 4}`)
			c.expect("", `{"stock":4}`)
		})
	}
}

func TestOtherRequestsPassUnchanged(t *testing.T) {
	doc := newDocument(`{ "as": "it is" }`)
	s := polled(t, "1s", doc.ServeHTTP)
	for _, accept := range []string{"application/json", "*/*", "text/html,*/*;q=0.8", "text/event-stream;q=0.5, application/json"} {
		resp := s.do("GET", "/api/x", "", "Accept", accept)
		if resp.body != `{ "as": "it is" }` || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept %s: got %s %q", accept, resp.Header.Get("Content-Type"), resp.body)
		}
	}
}

func TestUnsafeRequestInvalidatesBeforeInterval(t *testing.T) {
	orders := newDocument(`["a"]`)
	s := polled(t, "1h", orders.ServeHTTP)
	for _, write := range []struct{ watched, written string }{
		{"/api/orders", "/api/orders"},
		{"/api/orders", "/api/orders/7"},
		{"/api/orders", "/api/orders/7/cancel"},
		{"/api/orders/7", "/api/orders"},
		{"/api/orders?page=2", "/api/orders"},
	} {
		for _, protocol := range protocols {
			t.Run(fmt.Sprint(protocol, write), func(t *testing.T) {
				orders.set(`["a"]`)
				c := s.open(protocol, write.watched, "X-Test", t.Name())
				c.expect("", `["a"]`)
				s.do("POST", write.written, `["a","b"]`)
				c.expect("", `["a","b"]`)
			})
		}
	}
}

func TestLocationOfResponseIsInvalidated(t *testing.T) {
	orders := newDocument(`[]`)
	s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/api/orders/8")
		}
		orders.ServeHTTP(w, r)
	})
	c := s.open("HTTP/1.1", "/api/orders/8")
	c.expect("", `[]`)
	s.do("POST", "/api/checkout", `["new"]`)
	c.expect("", `["new"]`)
}

func TestLocationBelowStrippedPrefixIsInvalidated(t *testing.T) {
	orders := newDocument(`[]`)
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/shop/orders/8")
		}
		orders.ServeHTTP(w, r)
	})
	s := startSite(t, "", "handle_path /shop/* {\n sse {\n poll 1h\n }\n reverse_proxy "+backend+"\n }")
	c := s.open("HTTP/1.1", "/shop/orders/8")
	c.expect("", `[]`)
	s.do("POST", "/shop/checkout", `["new"]`)
	c.expect("", `["new"]`)
}

func TestFailedUnsafeRequestInvalidatesNothing(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusConflict)
			return
		}
		doc.ServeHTTP(w, r)
	})
	c := s.open("HTTP/1.1", "/api/x")
	c.expect("", `1`)
	s.do("PUT", "/api/x", "2")
	s.do("POST", "/api/x", "3") // succeeds: the poll after it sees both
	c.expect("", `3`)
	if n := doc.count(); n != 2 {
		t.Errorf("%d polls, want 2", n)
	}
}

func TestThousandViewersCostOnePollPerInterval(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a thousand streams")
	}
	doc := newDocument(`0`)
	s := polled(t, "500ms {\n timeout 1m\n }", doc.ServeHTTP) // opening the streams takes a while
	const viewers = 1000
	var open sync.WaitGroup
	var failed atomic.Int64
	clients := make([]*client, viewers)
	together := make(chan struct{}, 100) // a busy machine has not the time for all at once
	for i := range clients {
		open.Go(func() {
			together <- struct{}{}
			defer func() { <-together }()
			c, err := s.tryOpen("HTTP/2.0", "/api/x")
			if err != nil {
				t.Log(err)
				failed.Add(1)
				return
			}
			clients[i] = c
			if e := c.next(); string(e.Data) != "0" {
				failed.Add(1)
			}
		})
	}
	open.Wait()
	if failed.Load() > 0 {
		t.Fatalf("%d of %d viewers had no document", failed.Load(), viewers)
	}
	before, start := doc.count(), time.Now()
	for i := 1; i <= 4; i++ {
		doc.set(fmt.Sprint(i))
		for _, c := range clients {
			c.expect("", fmt.Sprint(i))
		}
	}
	const shortest = 490 * time.Millisecond // an interval may be a fiftieth shorter
	polls, intervals := doc.count()-before, int(time.Since(start)/shortest)
	if polls > intervals+1 {
		t.Errorf("%d polls in %d intervals", polls, intervals)
	}
}

func TestViewersWithDifferentCredentialsNeverShareData(t *testing.T) {
	s := polled(t, "100ms", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"cookie":%q,"authorization":%q,"key":%q}`, r.Header.Get("Cookie"), r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"))
	})
	for _, protocol := range protocols {
		for _, header := range [][]string{
			{"Cookie", "session=alice"},
			{"Cookie", "session=bob"},
			{"Authorization", "Bearer alice"},
			{"Authorization", "Bearer bob"},
			{"X-Api-Key", "alice"},
			{"X-Api-Key", "bob"},
			{},
		} {
			t.Run(fmt.Sprint(protocol, header), func(t *testing.T) {
				want := map[string]string{}
				if len(header) > 0 {
					want[header[0]] = header[1]
				}
				c := s.open(protocol, "/api/mine", header...)
				c.expect("", fmt.Sprintf(`{"cookie":%q,"authorization":%q,"key":%q}`, want["Cookie"], want["Authorization"], want["X-Api-Key"]))
			})
		}
	}
}

func TestVaryChoosesHeadersThatSeparateViewers(t *testing.T) {
	cookies := func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"cookie":%q,"key":%q}`, r.Header.Get("Cookie"), r.Header.Get("X-Api-Key"))
	}
	for options, want := range map[string]string{
		"vary none":                     `{"cookie":"","key":""}`,
		"vary Cookie":                   `{"cookie":"ads=1; session=alice","key":""}`,
		"vary Cookie:session":           `{"cookie":"session=alice","key":""}`,
		"vary Cookie:session X-Api-Key": `{"cookie":"session=alice","key":"k"}`,
		"vary cookie:basket":            `{"cookie":"","key":""}`,
	} {
		s := polled(t, "1h {\n "+options+"\n }", cookies)
		s.open("HTTP/1.1", "/api/x", "Cookie", "ads=1; session=alice", "X-Api-Key", "k").expect("", want)
	}
}

func TestViewersWithSameVaryHeadersShareOnePoll(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "1h {\n vary Cookie:session\n }", doc.ServeHTTP)
	for i := range 10 {
		s.open("HTTP/2.0", "/api/x", "Cookie", fmt.Sprintf("ads=%d; session=alice", i)).expect("", `1`)
	}
	if n := doc.count(); n != 1 {
		t.Errorf("%d polls, want 1", n)
	}
	s.open("HTTP/2.0", "/api/x", "Cookie", "ads=1; session=bob").expect("", `1`)
	if n := doc.count(); n != 2 {
		t.Errorf("%d polls, want one for the other session", n)
	}
}

func TestRulesForOneURLNeverShareDocuments(t *testing.T) {
	backend := startBackend(t, newDocument(`{"public":1,"secret":2}`).ServeHTTP)
	s := startSite(t, "", `
	@staff query staff=1
	handle @staff {
		uri query -staff
		sse {
			poll 100ms
		}
		reverse_proxy `+backend+`
	}
	handle {
		sse {
			poll 100ms {
				select `+"`{public}`"+`
			}
		}
		reverse_proxy `+backend+`
	}`)
	for _, protocol := range protocols {
		staff := s.open(protocol, "/api/x?staff=1")
		staff.expect("", `{"public":1,"secret":2}`)
		public := s.open(protocol, "/api/x")
		public.expect("", `{"public":1}`)
		s.do("PUT", "/api/x", `{"public":3,"secret":4}`)
		public.expect("", `{"public":3}`)
		staff.expect("", `{"public":3,"secret":4}`)
		s.do("PUT", "/api/x", `{"public":1,"secret":2}`)
		public.expect("", `{"public":1}`)
		staff.expect("", `{"public":1,"secret":2}`) // before the next viewer joins the view
	}
}

func TestViewersWithDifferentVariablesNeverShare(t *testing.T) {
	s := startSite(t, "", `
	@two query tenant=2
	vars tenant 1
	vars @two tenant 2
	uri query -tenant
	sse {
		poll 1h
	}
	respond {vars.tenant}`)
	s.open("HTTP/1.1", "/x").expect("", `1`)
	s.open("HTTP/1.1", "/x?tenant=2").expect("", `2`)
}

func TestBackendRefusalPassesWithAnyLengthAndType(t *testing.T) {
	doc := newDocument(`1`)
	refuse := func(w http.ResponseWriter, contentType string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, strings.Repeat("no ", 1000))
	}
	var kind atomic.Value
	s := polled(t, "100ms {\n max_body 1KiB\n }", func(w http.ResponseWriter, r *http.Request) {
		if contentType, _ := kind.Load().(string); contentType != "" {
			refuse(w, contentType)
			return
		}
		doc.ServeHTTP(w, r)
	})
	for _, contentType := range []string{"text/html", "text/event-stream"} {
		kind.Store("")
		c := s.open("HTTP/1.1", "/api/x")
		c.expect("", `1`)
		kind.Store(contentType)
		c.ended()
		if resp := s.do("GET", "/api/x", "", "Accept", "text/event-stream"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: the reconnect got %d", contentType, resp.StatusCode)
		}
	}
}

func TestFinishedDocumentVaryingByClientHintIsServed(t *testing.T) {
	s := polled(t, "100ms {\n until true\n }", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Language")
		_, _ = fmt.Fprintf(w, "%q", r.Header.Get("Accept-Language"))
	})
	for _, language := range []string{"de", "fr"} {
		c := s.open("HTTP/2.0", "/api/x", "Accept-Language", language)
		c.expect("", fmt.Sprintf("%q", language))
		c.expect("complete", `{}`)
		c.ended()
	}
}

func TestErrorRoutesHandleCaddysOwnErrors(t *testing.T) {
	s := startSite(t, "", `
	sse /api/* {
		poll 1s
	}
	error /api/* 403
	handle_errors {
		respond "our own page for {err.status_code}"
	}`)
	resp := s.do("GET", "/api/x", "", "Accept", "text/event-stream")
	if resp.StatusCode != http.StatusForbidden || resp.body != "our own page for 403" {
		t.Errorf("got %d %q", resp.StatusCode, resp.body)
	}
}

func TestForeignPositionYieldsOwnDocument(t *testing.T) {
	s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q", r.Header.Get("Cookie"))
	})
	alice := s.open("HTTP/1.1", "/api/mine", "Cookie", "alice").expect("", `"alice"`)
	bob := s.open("HTTP/1.1", "/api/mine", "Cookie", "bob", "Last-Event-ID", alice.ID)
	bob.expect("", `"bob"`)
}

func TestReconnectReceivesDocumentOnlyIfChanged(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "100ms", doc.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			doc.set(`1`)
			c := s.open(protocol, "/api/"+protocol[5:6])
			first := c.expect("", `1`)
			c.close()
			c = s.open(protocol, "/api/"+protocol[5:6]+"?last_event_id="+first.ID)
			doc.set(`2`)
			c.expect("", `2`)
			c.close()
			c = s.open(protocol, "/api/"+protocol[5:6], "Last-Event-ID", first.ID)
			c.expect("", `2`)
		})
	}
}

func TestLostPositionYieldsResetAndDocument(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "1h", doc.ServeHTTP)
	for _, id := range []string{"from-another-time-17", "garbage", "0"} {
		c := s.open("HTTP/1.1", "/api/x", "Last-Event-ID", id)
		if e := c.next(); e.Name != "reset" {
			t.Fatalf("%s: got event %q first, want reset", id, e.Name)
		}
		c.expect("", `1`)
	}
}

func TestBackendRefusalPassesUnchanged(t *testing.T) {
	s := polled(t, "1s", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="shop"`)
		w.Header().Set("Set-Cookie", "session=somebodys")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"who are you?"}`)
	})
	for _, protocol := range protocols {
		resp := s.doOver(protocol, "GET", "/api/x", "", "Accept", "text/event-stream")
		if resp.StatusCode != http.StatusUnauthorized || resp.body != `{"error":"who are you?"}` {
			t.Errorf("%s: got %d %q", protocol, resp.StatusCode, resp.body)
		}
		if got := resp.Header.Get("WWW-Authenticate"); got != `Bearer realm="shop"` {
			t.Errorf("%s: WWW-Authenticate is %q", protocol, got)
		}
		if got := resp.Header.Get("Set-Cookie"); got != "" {
			t.Errorf("%s: a cookie that several viewers may receive passes: %q", protocol, got)
		}
	}
}

func TestFailingBackendIsStaleUntilItRecovers(t *testing.T) {
	doc := newDocument(`"up"`)
	doc.status = http.StatusServiceUnavailable
	s := polled(t, "100ms", doc.ServeHTTP)
	c := s.open("HTTP/1.1", "/api/x")
	if e := c.next(); e.Name != "stale" || !strings.Contains(string(e.Data), `"status":503`) {
		t.Fatalf("got event %q with %q, want stale with the status", e.Name, e.Data)
	}
	doc.update(func() { doc.status = http.StatusOK })
	c.expect("", `"up"`)
	doc.update(func() { doc.status = http.StatusInternalServerError })
	if e := c.next(); e.Name != "stale" {
		t.Fatalf("got event %q, want stale", e.Name)
	}
	doc.update(func() { doc.status = http.StatusOK })
	c.expect("", `"up"`)
}

func TestUnreachableBackendIsStale(t *testing.T) {
	address := startBackend(t, nil)
	s := startSite(t, "", "sse /api/* {\n poll 100ms\n }\n reverse_proxy 127.0.0.1:1")
	c := s.open("HTTP/2.0", "/api/x")
	e := c.next()
	if e.Name != "stale" || !strings.Contains(string(e.Data), `"status":502`) {
		t.Fatalf("got event %q with %q, want stale with the status", e.Name, e.Data)
	}
	if strings.Contains(string(e.Data), "127.0.0.1") || strings.Contains(string(e.Data), address) {
		t.Errorf("the event reveals where the backend is: %s", e.Data)
	}
}

func TestVanishedDocumentEndsStreamAndRefusesReconnect(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "100ms", doc.ServeHTTP)
	c := s.open("HTTP/1.1", "/api/x")
	first := c.expect("", `1`)
	doc.update(func() { doc.status = http.StatusNotFound })
	c.expect("gone", `{"status":404}`)
	c.ended()
	resp := s.do("GET", "/api/x", "", "Accept", "text/event-stream", "Last-Event-ID", first.ID)
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the reconnect got %d, want the backend's own 404", resp.StatusCode)
	}
}

func TestViewerWithoutAccessLosesStream(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "100ms", doc.ServeHTTP)
	c := s.open("HTTP/1.1", "/api/x")
	c.expect("", `1`)
	doc.update(func() { doc.status = http.StatusForbidden })
	c.ended()
}

func TestPollUsesETag(t *testing.T) {
	doc := newDocument(`1`)
	doc.etag = true
	s := polled(t, "100ms", doc.ServeHTTP)
	c := s.open("HTTP/1.1", "/api/x")
	c.expect("", `1`)
	waitFor(t, "a 304", func() bool {
		doc.mu.Lock()
		defer doc.mu.Unlock()
		return doc.unmodified >= 2
	})
	doc.set(`2`)
	c.expect("", `2`)
}

func TestBackendWhoseClockIsAheadIsPolledInTime(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "1s", func(w http.ResponseWriter, r *http.Request) {
		ahead := time.Now().UTC().Add(2 * time.Hour)
		w.Header().Set("Date", ahead.Format(http.TimeFormat))
		w.Header().Set("Retry-After", ahead.Add(time.Second).Format(http.TimeFormat))
		w.Header().Set("Cache-Control", "no-cache, max-age=31536000")
		doc.ServeHTTP(w, r)
	})
	for i, protocol := range protocols {
		viewer := s.open(protocol, fmt.Sprintf("/api/%d", i))
		viewer.next()
		doc.set(fmt.Sprint("2", i))
		viewer.expect("", fmt.Sprint("2", i))
	}
}

func TestPollingStopsWithoutViewers(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "100ms {\n linger 0\n }", doc.ServeHTTP)
	c := s.open("HTTP/2.0", "/api/x")
	c.expect("", `1`)
	c.close()
	waitFor(t, "the last poll", func() bool {
		before := doc.count()
		time.Sleep(350 * time.Millisecond) // long enough to notice what must not happen
		return doc.count() == before
	})
}

func TestEncodeLeavesStreamsUncompressed(t *testing.T) {
	doc := newDocument(`"` + strings.Repeat("a", 4096) + `"`)
	s := startSite(t, "", "encode\n sse /api/* {\n poll 1h\n }\n reverse_proxy "+startBackend(t, doc.ServeHTTP))
	c := s.open("HTTP/2.0", "/api/x", "Accept-Encoding", "gzip, zstd")
	c.expect("", doc.content)
	if got := c.resp.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("the stream is encoded as %q", got)
	}
	if got := s.do("GET", "/api/x", "", "Accept-Encoding", "gzip").Header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("the document is encoded as %q, want gzip", got)
	}
}

func TestTwentyStreamsShareOneConnection(t *testing.T) {
	s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "%q", r.URL.Path) })
	for _, protocol := range []string{"HTTP/2.0", "HTTP/3.0"} {
		for i := range 20 {
			path := fmt.Sprintf("/api/%d", i)
			s.open(protocol, path).expect("", fmt.Sprintf("%q", path))
		}
	}
}

func TestPollWithoutNextHandlerIsRefused(t *testing.T) {
	s := startSite(t, "", "sse /api/* {\n poll 1s\n }")
	resp := s.do("GET", "/api/x", "", "Accept", "text/event-stream")
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(resp.body, "no handler answered") {
		t.Errorf("got %d %q", resp.StatusCode, resp.body)
	}
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 20 s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
