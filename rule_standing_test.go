package caddysse_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// feedOf returns a rule with a standing feed.
func feedOf(b *streamer, options string) string {
	return "sse /prices {\n relay http://" + b.address + "/feed?key=hidden {\n" + options + "\n}\n}\n"
}

func TestStandingFeedIsReadOnceForAllViewers(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", feedOf(b, "header_up X-Token \"Bearer hidden\""))
	up := b.next()
	if h := up.request.Header; h.Get("X-Token") != "Bearer hidden" || !strings.HasPrefix(h.Get("Accept"), "text/event-stream") || up.request.URL.RawQuery != "key=hidden" {
		t.Errorf("the feed got %s %v", up.request.URL, h)
	}
	var clients []*client
	for _, protocol := range protocols {
		clients = append(clients, s.open(protocol, "/prices"))
	}
	up.write("id: 1\nevent: price\ndata: a\n\nid: 2\ndata: b\n\n")
	for i, c := range clients {
		c.expect("price", "a")
		b := c.expect("", "b")
		c.close()
		clients[i] = s.open(protocols[i], "/prices", "Last-Event-ID", b.ID)
	}
	up.write("data: c\n\n")
	for _, c := range clients {
		c.expect("", "c")
	}
	if n := b.requests.Load(); n != 1 {
		t.Errorf("the feed got %d requests", n)
	}
	for _, protocol := range protocols { // all else passes to the next handler
		if resp := s.doOver(protocol, "GET", "/prices", ""); resp.StatusCode != http.StatusOK || resp.Header.Get("Vary") != "Accept" || resp.body != "" {
			t.Errorf("%s: %s %v", protocol, resp.Status, resp.Header)
		}
	}
}

func TestNewViewerOfStandingFeedGetsWhatReplaySays(t *testing.T) {
	for options, want := range map[string][]string{
		"": nil, "replay none": nil, "replay all": {"1", "2", "3"}, "replay last 2": {"2", "3"}, "replay last 9": {"1", "2", "3"},
	} {
		b := startStreamer(t, "text/event-stream")
		s := startSite(t, "", feedOf(b, options))
		wantReplay(t, s, b, "/prices", options, want)
	}
}

func TestStandingFeedIsCarriedOverReloads(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	directives := feedOf(b, "replay all")
	global := "sse {\n drain 200ms\n}"
	s := startSite(t, global, directives)
	up := b.next()
	const events = 1000
	var following sync.WaitGroup
	for i, protocol := range protocols {
		following.Go(func() {
			position, n := "", 0
			for n < events {
				c, err := s.tryOpen(protocol, "/prices", "Last-Event-ID", position)
				if err != nil {
					time.Sleep(10 * time.Millisecond) // an EventSource retries, too
					continue
				}
				for e := range c.events {
					if n++; string(e.Data) != fmt.Sprint(n) {
						t.Errorf("viewer %d: event %d is %q", i, n, e.Data)
						n = events
						break
					}
					if position = e.ID; n == events {
						break
					}
				}
				c.close()
			}
		})
	}
	for n := 1; n <= events; n++ {
		up.write("id: %d\ndata: %d\n\n", n, n)
		if n%300 == 0 {
			s.reload(global, directives)
		}
	}
	following.Wait()
	if n := b.requests.Load(); n != 1 {
		t.Errorf("the feed got %d requests", n)
	}
	s.reload(global, feedOf(b, "event changed"))
	changed := b.next()
	up.isLeft()
	if id := changed.request.Header.Get("Last-Event-ID"); id != "" {
		t.Errorf("the changed feed begins at %q", id)
	}
	s.reload(global, "respond nothing")
	changed.isLeft()
}

// A configuration that Caddy rejects changes nothing.
func TestRejectedConfigurationStartsNoStandingFeed(t *testing.T) {
	b, other := startStreamer(t, "text/event-stream"), startStreamer(t, "text/event-stream")
	s := startSite(t, "", feedOf(b, ""))
	up := b.next()
	if err := s.load("", feedOf(other, "")+"\nreverse_proxy {\n lb_policy no_such_policy\n}"); err == nil {
		t.Fatal("the configuration is accepted")
	}
	c := s.open("HTTP/1.1", "/prices")
	up.write("data: 1\n\n")
	c.expect("", "1")
	if n := other.requests.Load() + b.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestTwoFeedsFanIntoOneTopic(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	ndjson := startStreamer(t, "application/x-ndjson")
	s := startSite(t, "", fmt.Sprintf(`
		sse {
			relay http://%s/a http://%s/b {
				topic prices/{json.symbol}
			}
		}
		sse /events {
			topic prices/A prices/B
			envelope
		}
		respond "next"
	`, b.address, ndjson.address))
	one, two := b.next(), ndjson.next()
	var clients []*client
	for _, protocol := range protocols {
		clients = append(clients, s.open(protocol, "/events"))
	}
	for i := range 3 { // equal ids of two feeds are different ids
		one.write("id: %d\ndata: {\"symbol\":\"A\",\"n\":%d}\n\n", i, i)
		for _, c := range clients {
			c.expect("", fmt.Sprintf(`{"topic":"prices/A","data":{"symbol":"A","n":%d}}`, i))
		}
		two.write("{\"symbol\":\"B\",\"n\":%d}\n", i)
		for _, c := range clients {
			c.expect("", fmt.Sprintf(`{"topic":"prices/B","data":{"symbol":"B","n":%d}}`, i))
		}
	}
	// The rule itself has no streams.
	if resp := s.do("GET", "/prices", "", "Accept", "text/event-stream"); resp.body != "next" {
		t.Errorf("%s %q", resp.Status, resp.body)
	}
}

func TestViewersAreToldWhenStandingFeedIsLostAndBack(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", strings.Replace(feedOf(b, "topic prices"), "sse /prices", "sse", 1)+"sse /events {\n topic prices\n}\n"+strings.Replace(feedOf(b, "event own"), "/feed", "/other", 1))
	ups := []*backendStream{b.next(), b.next()}
	topic, own := s.open("HTTP/2.0", "/events"), s.open("HTTP/3.0", "/prices")
	for _, up := range ups {
		up.write("retry: 200\nid: 1\ndata: 1\n\n")
	}
	topic.expect("", "1")
	one := own.expect("own", "1")
	for _, up := range ups {
		up.abort()
	}
	for _, c := range []*client{topic, own} {
		if e := c.next(); e.Name != "stale" || !strings.Contains(string(e.Data), `"status":502`) {
			t.Errorf("got %q %q", e.Name, e.Data)
		}
	}
	for range ups {
		if up := b.next(); up.request.Header.Get("Last-Event-ID") != "1" {
			t.Errorf("the feed got %v", up.request.Header)
		}
	}
	for _, c := range []*client{topic, own} {
		if e := c.next(); e.Name != "fresh" {
			t.Errorf("got %q %q", e.Name, e.Data)
		}
	}
	late := s.open("HTTP/1.1", "/prices", "Last-Event-ID", one.ID)
	for _, name := range []string{"stale", "fresh"} {
		if e := late.next(); e.Name != name {
			t.Errorf("got %q %q", e.Name, e.Data)
		}
	}
}

func TestViewerWhoComesWhileStandingFeedFailsGetsStale(t *testing.T) {
	s := watchedSite(t, "", fmt.Sprintf("sse /prices {\n relay http://127.0.0.1:%d/feed\n}", freePort(t)))
	s.open("HTTP/1.1", "/prices").next() // it may come before the feed has failed
	c := s.open("HTTP/1.1", "/prices")
	stale := c.next()
	if stale.Name != "stale" {
		t.Errorf("got %q %q", stale.Name, stale.Data)
	}
	s.wantMetric("default", `relay_standing_feeds{rule="/prices"}`, 1)
	s.wantMetric("default", `relay_standing_stale_feeds{rule="/prices"}`, 1)
}

// A feed that is a path goes through the site's handlers: here with the site's own
// credentials, a rewrite, TLS, and a path that the rule itself matches.
func TestStandingFeedThatIsAPathGoesThroughTheSitesHandlers(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", fmt.Sprintf(`
		@stranger not header X-Token hidden
		route {
			sse /prices {
				relay /prices {
					header_up X-Token hidden
				}
			}
			respond @stranger 403
			rewrite /prices /feed?scheme={scheme}&host={host}
			reverse_proxy https://%s {
				transport http {
					tls_insecure_skip_verify
				}
			}
		}
		handle_path /unused {
			respond nothing
		}
	`, b.withTLS()))
	hosts := make(map[string]bool)
	ups := []*backendStream{b.next(), b.next()} // the site has two servers
	for _, up := range ups {
		hosts[up.request.URL.RawQuery] = true
	}
	if !hosts["scheme=http&host=localhost"] || !hosts["scheme=https&host=localhost"] {
		t.Errorf("%v", hosts)
	}
	for _, protocol := range protocols {
		c := s.open(protocol, "/prices")
		for _, up := range ups {
			up.write("data: 1\n\n")
		}
		c.expect("", "1")
		c.close()
	}
	s.reload("", "respond nothing")
	for _, up := range ups {
		up.isLeft()
	}
}

// withTLS returns the address of another server for the same streams, with TLS.
func (b *streamer) withTLS() string {
	server := httptest.NewTLSServer(http.HandlerFunc(b.serve))
	b.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// The hub of one site is the feed of another one.
func TestHubFollowsAnotherHub(t *testing.T) {
	global := "sse {\n drain 100ms\n}\nsse upper {\n drain 100ms\n}"
	s := startSite(t, global, "respond nothing")
	directives := fmt.Sprintf(`
		sse /publish {
			publish {
				token hidden-token-of-the-test
			}
			hub upper
		}
		sse /upper {
			topic news
			hub   upper
			retry 200ms
		}
		sse /news {
			relay http://127.0.0.1:%d/upper {
				header_up Host localhost
			}
		}
	`, s.http)
	s.reload(global, directives)
	publish := func(data string) {
		t.Helper()
		resp := s.do("POST", "/publish", fmt.Sprintf(`{"topic":"news","event":"own","data":%s}`, data), "Content-Type", "application/json", "Authorization", "Bearer hidden-token-of-the-test")
		if resp.StatusCode/100 != 2 {
			t.Fatalf("%s %s", resp.Status, resp.body)
		}
	}
	c := s.open("HTTP/2.0", "/news")
	for isOpen := false; !isOpen; { // the feed is connected when an event has come
		publish("-1")
		select {
		case <-c.events:
			isOpen = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	const events = 50
	for n := range events {
		publish(fmt.Sprint(n))
	}
	for n := 0; n < events; {
		e := c.next()
		if string(e.Data) == "-1" && n == 0 || e.Name == "stale" || e.Name == "fresh" { // while the site's listeners change
			continue
		}
		if e.Name != "own" || string(e.Data) != fmt.Sprint(n) {
			t.Fatalf("event %d is %q %q", n, e.Name, e.Data)
		}
		n++
	}
}

// A hub with a durable store remembers where its feeds were.
func TestStandingFeedContinuesAfterARestart(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	name := newHubName()
	global := "sse " + name + " {\n store file " + t.TempDir() + "\n drain 50ms\n}"
	directives := fmt.Sprintf("sse /prices {\n relay http://%s/feed {\n replay all\n}\n hub %s\n}", b.address, name)
	s := startSite(t, global, directives)
	up := b.next()
	up.write("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n")
	c := s.open("HTTP/1.1", "/prices")
	c.expect("", "1")
	two := c.expect("", "2")
	s.restart(global, directives)
	up.isLeft()
	up = b.next()
	if id := up.request.Header.Get("Last-Event-ID"); id != "2" {
		t.Errorf("the feed continues after %q", id)
	}
	up.write("id: 2\ndata: 2\n\nid: 3\ndata: 3\n\n") // it repeats one
	s.open("HTTP/1.1", "/prices", "Last-Event-ID", two.ID).expect("", "3")
	all := s.open("HTTP/3.0", "/prices")
	for _, data := range []string{"1", "2", "3"} {
		all.expect("", data)
	}
}

func TestRelayListShowsStandingFeedsWithoutSecrets(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := watchedSite(t, "", feedOf(b, "header_up X-Token hidden\nselect `\"hidden\"`"))
	c := s.open("HTTP/1.1", "/prices")
	b.next().write("id: hidden\ndata: {}\n\n")
	c.expect("", `"hidden"`)
	_, body := s.requestAdmin(http.MethodGet, "/sse/relays?path=/feed")
	for _, want := range []string{`"total":1`, `"rule":"/prices"`, `"method":"GET"`, `"path":"/feed"`, `"host":"` + b.address + `"`, `"standing":true`, `"viewers":1`, `"events":1`, `"state":"running"`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing in %s", want, body)
		}
	}
	if strings.Contains(body, "hidden") {
		t.Errorf("%s shows a secret", body)
	}
}
