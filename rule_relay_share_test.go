package caddysse_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestViewersShareOneResponseUnlessCredentialsOrVaryTellThemApart(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", relayTo(b, "share"))
	first := s.open("HTTP/1.1", "/live")
	up := b.next()
	up.write("data: 1\n\ndata: 2\n\n")
	first.expect("", "1")
	for _, header := range [][]string{nil, {"User-Agent", "other"}, {"X-Forwarded-For", "203.0.113.7"}} {
		late := s.open("HTTP/1.1", "/live", header...)
		late.expect("", "1")
		late.expect("", "2")
	}
	for _, header := range [][]string{{"Authorization", "Bearer a"}, {"Cookie", "session=1"}, {"X-Tenant", "b"}} {
		own := s.open("HTTP/1.1", "/live", header...)
		up := b.next()
		up.write("data: own\n\n")
		own.expect("", "own")
		again := s.open("HTTP/1.1", "/live", header...)
		again.expect("", "own")
	}
	if n := b.requests.Load(); n != 4 {
		t.Errorf("the backend got %d requests, want 4", n)
	}
	for name, kind := range map[string]string{"q": "text/event-stream", "x": "text/event-stream"} {
		b.kind.Store(kind)
		one := s.open("HTTP/1.1", "/live?"+name)
		up := b.next()
		up.write("data: %s\n\n", name)
		one.expect("", name)
	}
}

func TestLateViewerGetsWhatReplaySays(t *testing.T) {
	for options, want := range map[string][]string{
		"share": {"1", "2", "3"}, "share\nreplay all": {"1", "2", "3"}, "share\nreplay last 2": {"2", "3"}, "share\nreplay last 9": {"1", "2", "3"}, "share\nreplay none": nil,
	} {
		b := startStreamer(t, "text/event-stream")
		s := startSite(t, "", relayTo(b, options))
		wantReplay(t, s, b, "/live", options, want)
	}
}

// wantReplay has the backend send events 1 to 3 to a first viewer, and checks what a
// late one gets of them before event 4.
func wantReplay(t *testing.T, s *site, b *streamer, path, options string, want []string) {
	t.Helper()
	first := s.open("HTTP/1.1", path)
	up := b.next()
	up.write("id: 1\ndata: 1\n\ndata: 2\n\ndata: 3\n\n")
	for i := 1; i <= 3; i++ {
		first.expect("", fmt.Sprint(i))
	}
	late := s.open("HTTP/1.1", path)
	up.write("data: 4\n\n")
	for _, data := range append(want, "4") {
		if e := late.next(); string(e.Data) != data {
			t.Errorf("%q: got %q, want %q", options, e.Data, data)
		}
	}
	first.close()
	late.close()
}

func TestEventStreamOfGetIsReconnectedWhereItEnded(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", relayTo(b, "complete `if .last == 5 then {total: .count} else null end`"))
	c := s.open("HTTP/2.0", "/live")
	up := b.next()
	up.write("retry: 50\nid: a\ndata: 1\n\n")
	up.end() // as for an EventSource, this says nothing
	c.expect("", "1")
	up = b.next()
	if got := up.request.Header.Get("Last-Event-ID"); got != "a" {
		t.Errorf("the backend got the position %q", got)
	}
	up.write("id: b\ndata: 2\n\nid: c\ndata: half")
	up.abort()
	c.expect("", "2")
	if e := c.next(); e.Name != "stale" || !strings.Contains(string(e.Data), `"status":502`) {
		t.Errorf("got %q %q", e.Name, e.Data)
	}
	up = b.next()
	if got := up.request.Header.Get("Last-Event-ID"); got != "b" {
		t.Errorf("the backend got the position %q", got)
	}
	up.write("data: 5\n\ndata: 6\n\n")
	c.expect("", "5")
	last := c.expect("complete", `{"total":3}`)
	c.ended()
	up.isLeft()
	if resp := s.doOver("HTTP/2.0", "GET", "/live", "", "Accept", "text/event-stream", "Last-Event-ID", last.ID); resp.StatusCode != http.StatusNoContent {
		t.Errorf("a client that has all gets %s", resp.Status)
	}
}

// A backend that is down is no refusal.
func TestStreamOpensWhileBackendFails(t *testing.T) {
	s := startSite(t, "", fmt.Sprintf("sse {\n relay\n }\n reverse_proxy 127.0.0.1:%d", freePort(t)))
	c := s.open("HTTP/1.1", "/live")
	if e := c.next(); e.Name != "stale" {
		t.Errorf("got %q %q", e.Name, e.Data)
	}
	if resp := s.do("POST", "/live", "", "Accept", "text/event-stream"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("a POST gets %s", resp.Status)
	}
}

func TestResponseWithoutViewersIsLeftAfterDetach(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", relayTo(b, "detach 200ms"))
	c := s.open("HTTP/1.1", "/live")
	up := b.next()
	up.write("id: 1\ndata: 1\n\n")
	one := c.expect("", "1")
	c.close()
	up.isLeft()
	c = s.open("HTTP/1.1", "/live", "Last-Event-ID", one.ID)
	up = b.next() // another connection of the same feed
	if got := up.request.Header.Get("Last-Event-ID"); got != "1" {
		t.Errorf("the backend got the position %q", got)
	}
	up.write("data: 2\n\n")
	c.expect("", "2")

	c = s.post("HTTP/1.1", "/live", "{}")
	up = b.next()
	up.write("data: a\n\n")
	a := c.expect("", "a")
	where := c.resp.Header.Get("Content-Location")
	c.close()
	up.isLeft()
	c = s.open("HTTP/1.1", where, "Last-Event-ID", a.ID)
	if e := c.next(); e.Name != "stale" {
		t.Errorf("got %q %q", e.Name, e.Data)
	}
	c.ended()
}

func TestNdjsonThatBreaksOffIsStaleAndBeginsAgain(t *testing.T) {
	b := startStreamer(t, "application/x-ndjson")
	s := startSite(t, "", relayTo(b, ""))
	c := s.open("HTTP/1.1", "/export")
	up := b.next()
	up.write("1\n2")
	up.abort()
	c.expect("", "1")
	e := c.next()
	if e.Name != "stale" {
		t.Errorf("got %q %q", e.Name, e.Data)
	}
	c.ended()
	c = s.open("HTTP/1.1", "/export", "Last-Event-ID", e.ID)
	c.expect("reset", `{"reason":"the position is not in the history"}`)
	b.next().write("1\n")
	c.expect("", "1")
}

func TestRelayLimitsResponsesAndBodies(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", relayTo(b, "max_responses_per_client 2\nmax_request 10B"))
	for range 2 {
		s.open("HTTP/1.1", "/live")
	}
	if resp := s.do("GET", "/live", "", "Accept", "text/event-stream"); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third stream of a client: %s", resp.Status)
	}
	if resp := s.do("POST", "/live", "longer than 10", "Accept", "text/event-stream"); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %s", resp.Status)
	}
}

// followFeed reads a feed to its end, and reconnects when it is cut or moved.
func followFeed(s *site, protocol string, cut func() bool) (data []string, err error) {
	position := ""
	for failures := 0; ; {
		header := []string{"Last-Event-ID", position}
		if position == "" {
			header = nil
		}
		c, err := s.tryOpen(protocol, "/tokens", header...)
		if network := new(url.Error); errors.As(err, &network) && failures < 100 {
			failures++ // an EventSource retries, too
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return data, err
		}
		for e := range c.events {
			if position = e.ID; e.Name == "complete" {
				c.close()
				return data, nil
			}
			data = append(data, e.Name+string(e.Data))
			if cut() {
				break
			}
		}
		c.close()
	}
}

func TestSharedFeedSurvivesCutsAndReloadsWithOneRequest(t *testing.T) {
	events, viewers := 2000, 60
	if fullSize {
		events, viewers = 5000, 500
	}
	b := startStreamer(t, "text/event-stream")
	global := "sse {\n drain 300ms\n history 20000\n}"
	directives := relayTo(b, fmt.Sprintf("share\ncomplete `.last.n == %d`", events))
	s := startSite(t, global, directives)
	var following sync.WaitGroup
	results := make([][]string, viewers)
	for i := range viewers {
		following.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			protocol := protocols[i%3]
			if i >= 90 { // Caddy's limit for one HTTP/3 connection is 100
				protocol = protocols[i%2]
			}
			data, err := followFeed(s, protocol, func() bool { return random.IntN(400) == 0 })
			if err != nil {
				t.Errorf("viewer %d after %d events: %v", i, len(data), err)
			}
			results[i] = data
		})
	}
	ups := []*backendStream{b.next(), b.next()} // http and https have other hosts
	for n := 1; n <= events; n++ {
		for _, up := range ups {
			up.write("event: t\ndata: {\"n\":%d}\n\n", n)
		}
		if n == events/3 || n == events*2/3 {
			s.reload(global, directives)
		}
	}
	following.Wait()
	for i, data := range results {
		if len(data) != events {
			t.Errorf("viewer %d got %d events", i, len(data))
		}
		for n, d := range data {
			if want := fmt.Sprintf(`t{"n":%d}`, n+1); d != want {
				t.Errorf("viewer %d: event %d is %s", i, n+1, d)
				break
			}
		}
	}
	if n := b.requests.Load(); n != 2 {
		t.Errorf("the backend got %d requests", n)
	}
}

// A backend that sends without pause is read no further than max_ahead beyond a
// viewer that doesn't read, and without viewers.
func TestBackendIsReadOnlyAheadOfItsViewers(t *testing.T) {
	for options, limit := range map[string]int64{"": 40 << 20, "share": 400 << 20} { // with the buffers of three connections
		sent, response := openEndless(t, options)
		if options == "share" {
			response.Body.Close()
		}
		if n := <-sent; n > limit {
			t.Errorf("%q: the backend could send %d bytes", options, n)
		}
		response.Body.Close()
	}
}

// openEndless opens a stream of a backend that sends without pause until it can't.
func openEndless(t *testing.T, options string) (sent chan int64, response *http.Response) {
	sent = make(chan int64, 1)
	line := "data: " + strings.Repeat("x", 10_000) + "\n\n"
	address := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		var n int64
		defer func() { sent <- n }()
		for r.Context().Err() == nil {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * time.Second))
			written, err := io.WriteString(w, line)
			if n += int64(written); err != nil {
				return
			}
		}
	})
	s := startSite(t, "", "sse {\n relay {\n max_ahead 1MiB\n "+options+"\n }\n }\n reverse_proxy "+address)
	response, err := s.send(t.Context(), "HTTP/1.1", "GET", "/live", "", "Accept", "text/event-stream")
	if err != nil {
		t.Fatal(err)
	}
	return sent, response
}

func TestRelayListShowsResponsesWithoutSecrets(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := watchedSite(t, "", relayTo(b, "share\n"))
	c := s.open("HTTP/1.1", "/live?key=hidden", "Authorization", "Bearer hidden")
	up := b.next()
	up.write("data: secret\n\n")
	token := strings.Split(c.expect("", "secret").ID, ".")[1]
	_, body := s.requestAdmin(http.MethodGet, "/sse/relays?path=/live")
	for _, want := range []string{`"total":1`, `"rule":"relay"`, `"method":"GET"`, `"path":"/live"`, `"shared":true`, `"viewers":1`, `"events":1`, `"state":"running"`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing in %s", want, body)
		}
	}
	for _, secret := range []string{"hidden", "secret", token} {
		if strings.Contains(body, secret) {
			t.Errorf("%s shows %s", body, secret)
		}
	}
}
