package caddysse_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
)

// live returns the path of a multiplexed stream of URLs.
func live(urls ...string) string {
	query := make(url.Values)
	for _, u := range urls {
		query.Add("url", u)
	}
	return "/live?" + query.Encode()
}

// ofURL returns an event's envelope.
func ofURL(url, name, data string) string {
	if name != "" {
		name = fmt.Sprintf(`,"event":%q`, name)
	}
	return fmt.Sprintf(`{"url":%q%s,"data":%s}`, url, name, data)
}

// multiplexed starts a site that polls documents below /api/ and multiplexes them.
func multiplexed(t *testing.T, poll, more string, backend http.HandlerFunc) *site {
	t.Helper()
	return startSite(t, "", multiplexedRules(poll, more, startBackend(t, backend)))
}

func multiplexedRules(poll, more, backend string) string {
	return fmt.Sprintf("sse /live {\n multiplex\n }\n sse /api/* {\n poll %s\n }\n%s\n reverse_proxy %s", poll, more, backend)
}

// documents serves a document for each path. Others are missing.
type documents map[string]*document

func (d documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if doc := d[r.URL.Path]; doc != nil {
		doc.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

func newDocuments(names ...string) documents {
	docs := make(documents)
	for _, name := range names {
		docs["/api/"+name] = newDocument("0")
	}
	return docs
}

func (d documents) set(name, content string) { d["/api/"+name].set(content) }

func TestOneStreamHasSeveralURLs(t *testing.T) {
	docs := newDocuments("a", "b")
	s := multiplexed(t, "100ms", "", docs.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			docs.set("a", "1")
			docs.set("b", "2")
			c := s.open(protocol, live("/api/a?x=1&y="+protocol, "/api/b?"+protocol, "/api/b?"+protocol))
			a, b := "/api/a?x=1&y="+protocol, "/api/b?"+protocol
			c.expect("", ofURL(a, "", "1"))
			if e := c.expect("", ofURL(b, "", "2")); e.ID == "" {
				t.Error("the client has no position")
			}
			docs.set("b", "3")
			c.expect("", ofURL(b, "", "3"))
			docs.set("a", "4")
			c.expect("", ofURL(a, "", "4"))
		})
	}
}

func TestClientResumesEachURLFromItsPlace(t *testing.T) {
	docs := newDocuments("a", "b", "c")
	s := multiplexed(t, "100ms {\n send patch\n }", "", docs.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			urls := []string{"/api/a?" + protocol, "/api/b?" + protocol, "/api/c?" + protocol}
			doc := func(n int) string { return fmt.Sprintf(`{"n":%d,"text":"%080d"}`, n, 0) }
			patch := func(n int) string { return fmt.Sprintf(`[{"op":"replace","path":"/n","value":%d}]`, n) }
			for _, name := range []string{"a", "b", "c"} {
				docs.set(name, doc(0))
			}
			c, witness := s.open(protocol, live(urls...)), s.open(protocol, live(urls...))
			var last event.Event
			for _, u := range urls {
				last = c.expect("", ofURL(u, "", doc(0)))
				witness.next()
			}
			docs.set("a", doc(1))
			last = c.expect("", ofURL(urls[0], "patch", patch(1)))
			c.close()
			witness.next()
			for i, name := range []string{"b", "a", "b"} {
				docs.set(name, doc(i+2))
				witness.next()
			}
			again := s.open(protocol, live(urls...), "Last-Event-ID", last.ID)
			again.expect("", ofURL(urls[1], "patch", patch(2)))
			last = again.expect("", ofURL(urls[0], "patch", patch(3)))
			again.close()
			again = s.open(protocol, live(urls...), "Last-Event-ID", last.ID)
			last = again.expect("", ofURL(urls[1], "patch", patch(4)))
			again.close()

			again = s.open(protocol, live(append(urls, "/api/a?new&"+protocol)...)+"&last_event_id="+url.QueryEscape(last.ID))
			again.expect("", ofURL("/api/a?new&"+protocol, "", doc(3))) // nothing else
			docs.set("c", doc(9))
			again.expect("", ofURL(urls[2], "patch", patch(9)))
		})
	}
}

func TestReloadLosesNoEventOfAnyURL(t *testing.T) {
	docs := newDocuments("a", "b")
	backend := startBackend(t, docs.ServeHTTP)
	s := startSite(t, "sse {\n drain 1s\n }", multiplexedRules("100ms", "", backend))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			docs.set("a", "0")
			docs.set("b", "0")
			a, b := "/api/a?"+protocol, "/api/b?"+protocol
			c := s.open(protocol, live(a, b))
			c.expect("", ofURL(a, "", "0"))
			last := c.expect("", ofURL(b, "", "0"))
			s.reload("sse {\n drain 1s\n }", multiplexedRules("100ms", "header X-Test "+protocol, backend))
			c.ended()
			docs.set("b", "1")
			c = s.open(protocol, live(a, b), "Last-Event-ID", last.ID)
			c.expect("", ofURL(b, "", "1"))
			docs.set("a", "2")
			c.expect("", ofURL(a, "", "2"))
		})
	}
}

func TestRefusedURLLeavesTheOthersOpen(t *testing.T) {
	docs := newDocuments("a", "secret")
	docs["/api/secret"].status = http.StatusForbidden
	s := multiplexed(t, "100ms", "respond /plain hello", docs.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			a := "/api/a?" + protocol
			urls := []string{"/api/secret", a, "/api/missing", "/plain", live(a)}
			docs.set("a", "0")
			c := s.open(protocol, live(urls...))
			c.expect("", ofURL("/api/secret", "refused", `{"status":403,"reason":"Forbidden"}`))
			c.expect("", ofURL(a, "", "0"))
			c.expect("", ofURL("/api/missing", "refused", `{"status":404,"reason":"Not Found"}`))
			c.expect("", ofURL("/plain", "refused", `{"status":406,"reason":"no rule makes the URL live"}`))
			last := c.expect("", ofURL(live(a), "refused", `{"status":508,"reason":"a multiplexed stream can't be one of several: name its URLs themselves"}`))
			docs.set("a", "1")
			last = c.expect("", ofURL(a, "", "1"))
			c.close()
			c = s.open(protocol, live(urls...), "Last-Event-ID", last.ID) // which knows the refusals
			docs.set("a", "2")
			c.expect("", ofURL(a, "", "2"))
		})
	}
}

func TestRefusedURLsAloneEndStreamAndThenTheClient(t *testing.T) {
	s := multiplexed(t, "100ms", "", newDocuments().ServeHTTP)
	for _, protocol := range protocols {
		c := s.open(protocol, live("/api/a", "/api/b"))
		c.expect("", ofURL("/api/a", "refused", `{"status":404,"reason":"Not Found"}`))
		last := c.expect("", ofURL("/api/b", "refused", `{"status":404,"reason":"Not Found"}`))
		c.ended()
		if resp := s.doOver(protocol, "GET", live("/api/a", "/api/b"), "", "Last-Event-ID", last.ID); resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s: the client that knows all gets %s %s", protocol, resp.Status, resp.body)
		}
	}
}

func TestStreamEndsWhenAllURLsAreComplete(t *testing.T) {
	docs := newDocuments("a", "b")
	s := multiplexed(t, "100ms {\n until .done\n }", "", docs.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			a, b := "/api/a?"+protocol, "/api/b?"+protocol
			docs.set("a", `{"done":false}`)
			docs.set("b", `{"done":false}`)
			c := s.open(protocol, live(a, b))
			c.expect("", ofURL(a, "", `{"done":false}`))
			c.expect("", ofURL(b, "", `{"done":false}`))
			docs.set("a", `{"done":true}`)
			c.expect("", ofURL(a, "", `{"done":true}`))
			c.expect("", ofURL(a, "complete", `{}`))
			docs.set("b", `{"done":0,"n":1}`)
			docs.set("b", `{"done":null}`)
			last := c.expect("", ofURL(b, "", `{"done":null}`))
			c.close()
			c = s.open(protocol, live(a, b), "Last-Event-ID", last.ID) // which knows that a is complete
			docs.set("b", `{"done":true}`)
			c.expect("", ofURL(b, "", `{"done":true}`))
			last = c.expect("", ofURL(b, "complete", `{}`))
			c.ended()
			if resp := s.doOver(protocol, "GET", live(a, b), "", "Last-Event-ID", last.ID); resp.StatusCode != http.StatusNoContent {
				t.Errorf("the client that has all gets %s %s", resp.Status, resp.body)
			}
		})
	}
}

func TestTopicsAreMultiplexedWithDocuments(t *testing.T) {
	docs := newDocuments("a")
	s := multiplexed(t, "100ms", fmt.Sprintf(pubsub, ""), docs.ServeHTTP)
	c := s.open("HTTP/1.1", live("/api/a", "/events/news", "/events/sport"))
	c.expect("", ofURL("/api/a", "", "0"))
	s.publish("news?event=paid", `{"n":1}`)
	s.publish("other", `{"n":2}`)
	s.publish("sport", "text")
	c.expect("", ofURL("/events/news", "paid", `{"n":1}`))
	last := c.expect("", ofURL("/events/sport", "", `"text"`))
	c.close()
	s.publish("news", "3")
	docs.set("a", "4")
	c = s.open("HTTP/1.1", live("/api/a", "/events/news", "/events/sport"), "Last-Event-ID", last.ID)
	c.expect("", ofURL("/events/news", "", "3"))
	c.expect("", ofURL("/api/a", "", "4"))
}

func TestURLsOfMultiplexedStreamAreChecked(t *testing.T) {
	s := multiplexed(t, "100ms", "", newDocuments("a").ServeHTTP)
	for query, want := range map[string]string{
		"":                                   "name the URLs of the stream",
		"?url=":                              "want a path of this site",
		"?url=http://example.com/":           "want a path of this site",
		"?url=//example.com/":                "want a path of this site",
		"?url=/api/../secret":                "leave out the segments",
		"?url=/api/%252e%252e/x":             "leave out the segments",
		"?url=/a%23b":                        "leave out",
		"?url=/a%5Cb":                        "leave out",
		"?url=/a%0Ab":                        "control characters",
		"?url=/%25zz":                        "encoding is not valid",
		"?url=/" + strings.Repeat("a", 9000): "longer than 8192 bytes",
		"?url=/" + func() string {
			var urls []string
			for i := range 21 {
				urls = append(urls, fmt.Sprint(i))
			}
			return strings.Join(urls, "&url=/")
		}(): "may have 20 URLs",
	} {
		resp := s.do("GET", "/live"+query, "", "Accept", "text/event-stream")
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(resp.body, want) {
			t.Errorf("%.60s: %s %s, want %q", query, resp.Status, resp.body, want)
		}
	}
}

func TestAdminListsAndEndsMultiplexedStreamsByTheirURLs(t *testing.T) {
	docs := newDocuments("a", "b")
	s := watchedSite(t, "", multiplexedRules("100ms", "", startBackend(t, docs.ServeHTTP)))
	c := s.open("HTTP/1.1", live("/api/a?key=of-mine", "/api/b"))
	c.next()
	c.next()
	_, body := s.requestAdmin("GET", "/sse/streams?path=/api/b")
	var list struct {
		Streams []struct {
			Path  string
			Paths []string
		}
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Streams) != 1 || list.Streams[0].Path != "/live" ||
		!slices.Equal(list.Streams[0].Paths, []string{"/api/a", "/api/b"}) || strings.Contains(body, "of-mine") {
		t.Errorf("%v: %s", err, body)
	}
	if _, body := s.requestAdmin("DELETE", "/sse/streams?path=/api/c"); strings.TrimSpace(body) != `{"ended":0}` {
		t.Errorf("of another URL: %s", body)
	}
	if _, body := s.requestAdmin("DELETE", "/sse/streams?path=/api/b"); strings.TrimSpace(body) != `{"ended":1}` {
		t.Errorf("of its URL: %s", body)
	}
	c.ended()
}

func TestMetricsCountMultiplexedURLs(t *testing.T) {
	docs := newDocuments("a")
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, fmt.Sprintf("sse /live {\n multiplex\n hub %[1]s\n name m\n }\n sse /api/* {\n poll 100ms\n hub %[1]s\n }\n reverse_proxy %[2]s", hub, startBackend(t, docs.ServeHTTP)))
	s.open("HTTP/1.1", live("/api/a", "/api/missing")).next()
	s.wantMetric(hub, `multiplexed_urls_total{result="opened",rule="m"}`, 1)
}

func TestURLsOfRelaysAndOtherHubsAreRefused(t *testing.T) {
	s := startSite(t, "sse other", fmt.Sprintf(`
	sse /live {
		multiplex
	}
	sse /elsewhere {
		topic news
		hub other
	}
	sse /relay {
		relay
	}
	sse /news {
		topic news
	}
	reverse_proxy %s`, startBackend(t, newDocument("0").ServeHTTP)))
	c := s.open("HTTP/1.1", live("/elsewhere", "/relay", "/news"))
	c.expect("", ofURL("/elsewhere", "refused", `{"status":421,"reason":"the URL is on the hub other, and the multiplexed stream on default: open it alone"}`))
	c.expect("", ofURL("/relay", "refused", `{"status":501,"reason":"a relayed stream can't be one of several: open it alone"}`))
}

func TestGoneURLLeavesTheOthersOpen(t *testing.T) {
	docs := newDocuments("a", "b")
	s := multiplexed(t, "100ms", "", docs.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			a, b := "/api/a?"+protocol, "/api/b?"+protocol
			docs.set("a", "0")
			docs["/api/b"].update(func() { docs["/api/b"].status = http.StatusOK })
			c := s.open(protocol, live(a, b))
			c.expect("", ofURL(a, "", "0"))
			c.expect("", ofURL(b, "", "0"))
			docs["/api/b"].update(func() { docs["/api/b"].status = http.StatusNotFound })
			c.expect("", ofURL(b, "gone", `{"status":404}`))
			docs.set("a", "1")
			last := c.expect("", ofURL(a, "", "1"))
			c.close()
			c = s.open(protocol, live(a, b), "Last-Event-ID", last.ID)
			c.expect("", ofURL(b, "refused", `{"status":404,"reason":"Not Found"}`))
			docs.set("a", "2")
			c.expect("", ofURL(a, "", "2"))
		})
	}
}

func TestLostPositionResetsEachURL(t *testing.T) {
	s := multiplexed(t, "100ms", fmt.Sprintf(pubsub, ""), newDocuments("a").ServeHTTP)
	for _, protocol := range protocols {
		c := s.open(protocol, live("/api/a", "/events/news"), "Last-Event-ID", "another.log-7~abcdefghij")
		const reset = `{"reason":"the position is not in the history"}`
		c.expect("", ofURL("/api/a", "reset", reset))
		c.expect("", ofURL("/api/a", "", "0"))
		if e := c.expect("", ofURL("/events/news", "reset", reset)); e.ID == "" {
			t.Error("the client has no new position")
		}
	}
}

func TestProgramsEventsOfSeveralURLsResume(t *testing.T) {
	docs := newDocuments("a", "b")
	s := multiplexed(t, "1h {\n send jq `.new[(.old // [] | length):][] | {event: \"item\", data: .}`\n }", "", docs.ServeHTTP)
	for _, protocol := range protocols {
		docs.set("a", "[1]")
		docs.set("b", "[]")
		a, b := "/api/a?"+protocol, "/api/b?"+protocol
		witness := s.open(protocol, live(a, b))
		witness.expect("", ofURL(a, "item", "1"))
		s.do("PUT", a, "[1,2]")
		witness.expect("", ofURL(a, "item", "2"))
		c := s.open(protocol, live(a, b))
		c.expect("", ofURL(a, "item", "1"))
		last := c.expect("", ofURL(a, "item", "2"))
		c.close()
		s.do("PUT", b, "[7]")
		witness.expect("", ofURL(b, "item", "7"))
		s.do("PUT", a, "[1,2,3]")
		witness.expect("", ofURL(a, "item", "3"))
		back := s.open(protocol, live(a, b), "Last-Event-ID", last.ID)
		back.expect("", ofURL(b, "item", "7"))
		back.expect("", ofURL(a, "item", "3"))
		back.close()
		witness.close()
	}
}
