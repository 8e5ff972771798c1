package caddysse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// pubsub lets anyone publish below /hooks/ and subscribe below /events/.
const pubsub = `
	sse /hooks/* {
		webhook {
			verify none
			topic {path.1}
			event {query.event}
			id    {query.id}
		}
	}
	sse /events/* {
		topic {path.1}
		allow *
		%s
	}
`

func startPubsub(t *testing.T, options string) *site {
	t.Helper()
	return startSite(t, "", fmt.Sprintf(pubsub, options))
}

// publish sends a webhook and returns its event's id.
func (s *site) publish(topic, data string) string {
	s.t.Helper()
	resp := s.do("POST", "/hooks/"+topic, data)
	var answer struct{ ID string }
	if resp.StatusCode != http.StatusAccepted || json.Unmarshal([]byte(resp.body), &answer) != nil || answer.ID == "" {
		s.t.Fatalf("publishing: %s %s", resp.Status, resp.body)
	}
	return answer.ID
}

func TestEventArrivesWithAcknowledgedID(t *testing.T) {
	s := startPubsub(t, "")
	for _, protocol := range protocols {
		c := s.open(protocol, "/events/news")
		id := s.publish("news", "hello\nworld")
		if e := c.expect("", "hello\nworld"); e.ID != id {
			t.Errorf("%s: arrived with id %q, the sender was told %q", protocol, e.ID, id)
		}
	}
}

func TestStreamHasRequiredHeaders(t *testing.T) {
	s := startPubsub(t, "")
	for _, protocol := range protocols {
		c := s.open(protocol, "/events/news")
		for name, want := range map[string]string{
			"Content-Type":                 "text/event-stream",
			"Cache-Control":                "no-cache, no-store, private, no-transform",
			"Cross-Origin-Resource-Policy": "same-origin",
			"X-Content-Type-Options":       "nosniff",
			"X-Accel-Buffering":            "no",
			"Content-Length":               "",
			"Connection":                   "",
			"Content-Encoding":             "",
		} {
			if got := c.resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", protocol, name, got, want)
			}
		}
	}
}

func TestStreamSendsFirstBytesBeforeAnyEvent(t *testing.T) {
	s := startPubsub(t, "retry 2s")
	for _, protocol := range protocols {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		resp, err := s.send(ctx, protocol, "GET", "/events/quiet", "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 64)
		n, err := resp.Body.Read(buf)
		if err != nil || !bytes.HasPrefix(buf[:n], []byte("retry: ")) {
			t.Errorf("%s: first read gave %q, %v", protocol, buf[:n], err)
		}
	}
}

func TestSilentStreamSendsHeartbeats(t *testing.T) {
	s := startPubsub(t, "heartbeat 1s")
	for _, protocol := range protocols {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		resp, err := s.send(ctx, protocol, "GET", "/events/quiet", "")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got []byte
		buf := make([]byte, 64)
		for bytes.Count(got, []byte("retry: ")) < 4 {
			n, err := resp.Body.Read(buf)
			if err != nil {
				t.Fatalf("%s: after %q: %v", protocol, got, err)
			}
			got = append(got, buf[:n]...)
		}
		for _, line := range bytes.SplitAfter(got, []byte("\n"))[1:] {
			if first, _, _ := bytes.Cut(got, []byte("\n")); len(line) > 0 && string(line) != string(first)+"\n" {
				t.Errorf("%s: heartbeats that differ, or more than heartbeats, in %q", protocol, got)
			}
		}
	}
}

func TestHeadReturnsOnlyHeaders(t *testing.T) {
	s := startPubsub(t, "")
	for _, protocol := range protocols {
		resp := s.doOver(protocol, "HEAD", "/events/news", "")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || resp.body != "" {
			t.Errorf("%s: got %s, %s, %q", protocol, resp.Status, resp.Header.Get("Content-Type"), resp.body)
		}
	}
}

func TestUnservedRequestsReachNextHandler(t *testing.T) {
	s := startSite(t, "", fmt.Sprintf(pubsub, "")+`respond "the app's own {method}"`)
	for _, request := range [][]string{
		{"GET", "/events/news", "Accept", "application/json"},
		{"POST", "/events/news"},
		{"DELETE", "/events/news"},
		{"GET", "/hooks/news"},
		{"PUT", "/hooks/news"},
	} {
		resp := s.do(request[0], request[1], "", request[2:]...)
		if resp.body != "the app's own "+request[0] {
			t.Errorf("%v: got %s %q", request, resp.Status, resp.body)
		}
	}
}

func TestUnansweredRequestsAreRefused(t *testing.T) {
	s := startPubsub(t, "")
	for _, c := range []struct {
		method, path, accept string
		status               int
		allow                string
	}{
		{"GET", "/events/news", "application/json", http.StatusNotAcceptable, ""},
		{"POST", "/events/news", "", http.StatusMethodNotAllowed, "GET, HEAD, OPTIONS"},
		{"OPTIONS", "/events/news", "", http.StatusNoContent, "GET, HEAD, OPTIONS"},
		{"GET", "/hooks/news", "", http.StatusMethodNotAllowed, "POST"},
		{"GET", "/events/", "text/event-stream", http.StatusBadRequest, ""},
	} {
		resp := s.do(c.method, c.path, "", "Accept", c.accept)
		if resp.StatusCode != c.status || resp.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: got %d, Allow %q; want %d, %q", c.method, c.path, resp.StatusCode, resp.Header.Get("Allow"), c.status, c.allow)
		}
		if strings.Count(resp.body, "\n") > 1 {
			t.Errorf("%s %s: the reason is not one line: %q", c.method, c.path, resp.body)
		}
	}
	problem := s.do("GET", "/events/", "", "Accept", "text/event-stream, application/problem+json")
	if got := problem.Header.Get("Content-Type"); got != "application/problem+json" || !json.Valid([]byte(problem.body)) {
		t.Errorf("asked for a problem, got %s %q", got, problem.body)
	}
}

func TestStreamCarriesOnlyRequestedTopics(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/* {
		webhook {
			verify none
			topic {path.1}/{path.2}
		}
	}
	sse /events {
		topic orders/{query.order} news/all
		allow orders/*
	}`)
	c := s.open("HTTP/2.0", "/events?order=1&order=2")
	s.publish("orders/3", "not mine")
	s.publish("orders/1", "one")
	s.publish("news/other", "not this")
	s.publish("orders/2", "two")
	s.publish("news/all", "all")
	for _, data := range []string{"one", "two", "all"} {
		c.expect("", data)
	}
}

func TestTopicOutsideAllowIsRefused(t *testing.T) {
	s := startSite(t, "", `
	sse /events {
		topic {query.topic}
		allow public/*
	}`)
	for query, want := range map[string]int{
		"topic=public/news":                  http.StatusOK,
		"topic=private/news":                 http.StatusForbidden,
		"topic=public/news&topic=private":    http.StatusForbidden,
		"topic=public/../private":            http.StatusForbidden,
		"topic=public/news/more":             http.StatusForbidden,
		"topic=public%2Fnews":                http.StatusOK,
		"topic=%00poll/x":                    http.StatusBadRequest,
		"topic=public/%0Aevent:x":            http.StatusBadRequest,
		"topic=" + strings.Repeat("a", 2000): http.StatusBadRequest,
		"":                                   http.StatusBadRequest,
	} {
		if resp := s.do("HEAD", "/events?"+query, ""); resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", query, resp.StatusCode, want)
		}
	}
}

func TestCORSPreflightAllowsOnlyConfiguredOrigins(t *testing.T) {
	s := startPubsub(t, "cors https://app.example")
	preflight := func(origin string) response {
		return s.do("OPTIONS", "/events/news", "", "Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "last-event-id")
	}
	if resp := preflight("https://app.example"); resp.StatusCode != http.StatusNoContent ||
		resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example" ||
		resp.Header.Get("Access-Control-Allow-Credentials") != "true" ||
		resp.Header.Get("Access-Control-Allow-Headers") != "Last-Event-ID, Cache-Control, Authorization" {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
	for _, origin := range []string{"https://app.example.evil.example", "https://evil-app.example", "null", "http://app.example", "https://app.example:444"} {
		if got := preflight(origin).Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s is allowed as %q", origin, got)
		}
	}
	c := s.open("HTTP/1.1", "/events/news", "Origin", "https://app.example")
	if got := c.resp.Header.Get("Access-Control-Allow-Origin"); got != "https://app.example" {
		t.Errorf("the stream allows %q", got)
	}
}

func TestRepeatedIDIsPublishedOnce(t *testing.T) {
	s := startPubsub(t, "")
	c := s.open("HTTP/1.1", "/events/news")
	for range 3 {
		if resp := s.do("POST", "/hooks/news?id=delivery-1", "once"); resp.StatusCode != http.StatusAccepted || resp.body != `{"id":"delivery-1"}`+"\n" {
			t.Errorf("got %s %q", resp.Status, resp.body)
		}
	}
	s.publish("news", "after")
	c.expect("", "once")
	c.expect("", "after")
}

func TestLostTopicPositionYieldsReset(t *testing.T) {
	s := startSite(t, "sse {\n history 5\n }", fmt.Sprintf(pubsub, ""))
	first := s.publish("news", "0")
	for i := 1; i < 10; i++ {
		s.publish("news", strconv.Itoa(i))
	}
	c := s.open("HTTP/1.1", "/events/news", "Last-Event-ID", first)
	reset := c.next()
	if reset.Name != "reset" {
		t.Fatalf("got event %q, want reset", reset.Name)
	}
	s.publish("news", "later")
	c.expect("", "later")
	c = s.open("HTTP/1.1", "/events/news", "Last-Event-ID", reset.ID)
	c.expect("", "later")
}

// A client whose connection breaks at random times receives each event once and
// in order.
func TestHundredReconnectsReceiveEveryEventOnceInOrder(t *testing.T) {
	const disconnects, events = 100, 10_000
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, "sse {\n history 20000\n }", fmt.Sprintf(pubsub, ""))
			start := s.publish("news", "start")
			var publishing sync.WaitGroup
			publishing.Go(func() {
				for i := range events {
					s.publish("news", strconv.Itoa(i))
				}
			})
			defer publishing.Wait()
			got, last := make([]int, 0, events), start
			for streams := 0; len(got) < events; streams++ {
				c := s.open(protocol, "/events/news", "Last-Event-ID", last)
				enough := events
				if streams < disconnects {
					enough = len(got) + rand.N(2*events/disconnects)
				}
				for len(got) < min(enough, events) {
					e := c.next()
					n, err := strconv.Atoi(string(e.Data))
					if err != nil {
						t.Fatalf("got event %q with %q", e.Name, e.Data)
					}
					got, last = append(got, n), e.ID
				}
				c.close()
			}
			for i, n := range got {
				if n != i {
					t.Fatalf("event %d came instead of %d", n, i)
				}
			}
		})
	}
}

func TestReloadWithOpenStreamsLosesNoEvent(t *testing.T) {
	const reloads, clients = 5, 10
	global := "sse {\n drain 200ms\n }"
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, global, fmt.Sprintf(pubsub, "retry 20ms"))
			position := s.publish("news", "start")
			stop := make(chan struct{})
			var published []string
			var publishing, reading sync.WaitGroup
			publishing.Go(func() { published = s.publishUntil(stop) })
			results := make([][]string, clients)
			for i := range results {
				reading.Go(func() { results[i] = s.collect(protocol, position) })
			}
			for range reloads {
				s.reload(global, fmt.Sprintf(pubsub, "retry 20ms"))
				time.Sleep(300 * time.Millisecond) // so that one reload's drain ends before the next
			}
			close(stop)
			publishing.Wait()
			reading.Wait()
			for i, got := range results {
				if !slices.Equal(got, published) {
					t.Errorf("client %d has %d events of %d, or not in order", i, len(got), len(published))
				}
			}
		})
	}
}

// lastEvent is the data of a test's last event.
const lastEvent = "last"

// publishUntil publishes numbers until stop closes, and then the last event.
func (s *site) publishUntil(stop <-chan struct{}) (published []string) {
	for n := 0; ; n++ {
		data := strconv.Itoa(n)
		select {
		case <-stop:
			data = lastEvent
		case <-time.After(time.Millisecond):
		}
		s.publishUntilAcknowledged("news", data)
		published = append(published, data)
		if data == lastEvent {
			return published
		}
	}
}

// publishUntilAcknowledged repeats a webhook with the same id until it is
// acknowledged: a server that shuts down may close the connection of a request.
func (s *site) publishUntilAcknowledged(topic, data string) {
	path := fmt.Sprintf("/hooks/%s?id=%s", topic, data)
	for range 100 {
		resp, err := s.send(context.Background(), "HTTP/1.1", "POST", path, data)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusAccepted {
			return
		}
	}
	s.t.Errorf("event %s could not be delivered", data)
}

// collect reads like an EventSource, which reconnects with its last position,
// until the last event.
func (s *site) collect(protocol, position string) (got []string) {
	for failures := 0; ; {
		c, err := s.tryOpen(protocol, "/events/news", "Last-Event-ID", position)
		if network := new(url.Error); errors.As(err, &network) && failures < 100 {
			failures++ // an EventSource retries, too
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			s.t.Errorf("reconnecting: %v", err) // and stops
			return got
		}
		for e := range c.events {
			if e.Name == "reset" {
				s.t.Error("the position was lost")
				return got
			}
			position = e.ID
			if got = append(got, string(e.Data)); string(e.Data) == lastEvent {
				c.close()
				return got
			}
		}
		c.close()
	}
}

func TestClientWithoutEventsMissesNothingInReload(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, "sse {\n drain 50ms\n }", fmt.Sprintf(pubsub, ""))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			resp, err := s.send(ctx, protocol, "GET", "/events/quiet", "")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			s.reload("sse {\n drain 50ms\n }", fmt.Sprintf(pubsub, "retry 1s"))
			var wire bytes.Buffer
			if _, err := wire.ReadFrom(resp.Body); err != nil {
				t.Fatal(err)
			}
			position := ""
			for line := range strings.Lines(wire.String()) {
				if id, ok := strings.CutPrefix(line, "id: "); ok {
					position = strings.TrimSpace(id)
				}
			}
			s.publishUntilAcknowledged("quiet", "in-the-gap")
			s.open(protocol, "/events/quiet", "Last-Event-ID", position).expect("", "in-the-gap")
		})
	}
}

func TestReloadDoesNotRepeatDocument(t *testing.T) {
	doc := newDocument(`1`)
	global, rule := "sse {\n drain 10ms\n }", "sse /api/* {\n poll 100ms\n }\n reverse_proxy "+startBackend(t, doc.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, global, rule)
			doc.set(`1`)
			c := s.open(protocol, "/api/x")
			position := c.expect("", `1`).ID
			s.reload(global, rule)
			c.ended()
			c = s.open(protocol, "/api/x", "Last-Event-ID", position)
			doc.set(`2`)
			c.expect("", `2`)
		})
	}
}

// Otherwise a viewer of one rule could read another rule's document with an old
// position.
func TestReorderedRulesKeepTheirViews(t *testing.T) {
	doc := newDocument(`1`)
	backend := startBackend(t, doc.ServeHTTP)
	rules := []string{
		"@one query way=one\n sse @one {\n poll 100ms\n }\n",
		"@two query way=two\n sse @two {\n poll 100ms\n }\n",
	}
	global := "sse {\n drain 10ms\n }"
	s := startSite(t, global, rules[0]+rules[1]+"reverse_proxy "+backend)
	c := s.open("HTTP/2.0", "/doc?way=one")
	position := c.expect("", `1`).ID
	s.reload(global, rules[1]+rules[0]+"reverse_proxy "+backend)
	c.ended()
	c = s.open("HTTP/2.0", "/doc?way=one", "Last-Event-ID", position)
	doc.set(`2`)
	c.expect("", `2`)
}

func TestRejectedConfigurationDisturbsNoStream(t *testing.T) {
	s := startPubsub(t, "")
	c := s.open("HTTP/2.0", "/events/news")
	if err := s.load("", "sse /x {\n poll 1ms\n }"); err == nil {
		t.Fatal("a poll each millisecond was accepted")
	}
	// Rejected only after its apps were started: another process uses the port.
	if err := loadCaddyfile(fmt.Sprintf("{\n admin off\n}\nhttp://localhost:%d {\n sse /x {\n poll 1s\n }\n}\nhttp://localhost:%d {\n bind 192.0.2.1\n}", s.http, freePort(t))); err == nil {
		t.Fatal("a listener on another machine's address was accepted")
	}
	s.publish("news", "still here")
	c.expect("", "still here")
}

func TestStreamsEndAtOnceWithoutNextConfiguration(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startPubsub(t, "")
			var clients []*client
			for range 100 {
				clients = append(clients, s.open(protocol, "/events/news"))
			}
			start := time.Now()
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			for _, c := range clients {
				c.ended()
			}
			t.Logf("100 streams ended in %v", time.Since(start))
		})
	}
}
