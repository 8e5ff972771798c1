package caddysse_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// streamListing is the admin API's list of streams.
type streamListing struct {
	Total   int
	Streams []openStream
}

type openStream struct {
	Hub, Rule, Proto, Client, User, Host, Path string
	Since                                      time.Time
	Events, Bytes, Lag, Topics                 int
}

// topicListing is the admin API's list of topics.
type topicListing struct {
	Total  int
	Topics []struct {
		Hub, Topic string
		Followers  int
		Last       *struct {
			ID   string
			Time time.Time
		}
	}
}

// get requests a list from the admin API.
func get[T any](s *site, path string) (answer T) {
	s.t.Helper()
	status, body := s.requestAdmin("GET", path)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		s.t.Fatal(err)
	}
	return answer
}

// authenticatedSite is a site whose streams are those of users of a proxy's clients.
func authenticatedSite(t *testing.T) (s *site, hub string) {
	hub = newHubName()
	doc := newDocument(`{"n":1}`)
	return watchedSite(t, "sse "+hub+" {\n drain 100ms\n }\n servers {\n trusted_proxies static 127.0.0.0/8\n client_ip_headers X-Forwarded-For\n }", `
	@signed_in header Authorization *
	basic_auth @signed_in {
		ann $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u
		zoe $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u
	}
	sse /events/* {
		hub `+hub+`
		name events
		topic news {query.topic}
		allow **
	}
	sse /hooks/* {
		hub `+hub+`
		webhook {
			verify none
			topic {query.topic}
		}
	}
	sse /api/* {
		hub `+hub+`
		poll 1h
	}
	reverse_proxy `+startBackend(t, doc.ServeHTTP)), hub
}

func TestStreamListShowsOpenStreamsWithoutSecrets(t *testing.T) {
	s, hub := authenticatedSite(t)
	began := time.Now()
	for i, protocol := range protocols {
		s.open(protocol, "/events/x?topic=verysecret", "Authorization", basicAuth("ann"), "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
	}
	s.open("HTTP/2.0", "/api/x?token=verysecret", "Cookie", "verysecret").next()
	events := s.open("HTTP/2.0", "/events/y")
	s.do("POST", "/hooks/a?topic=news", "hello")
	events.expect("", "hello")
	var l streamListing
	waitFor(t, "every stream to have its event", func() bool {
		l = get[streamListing](s, "/sse/streams?hub="+hub)
		return !slices.ContainsFunc(l.Streams, func(o openStream) bool { return o.Events != 1 })
	})
	if l.Total != 5 || len(l.Streams) != 5 {
		t.Fatalf("%+v", l)
	}
	for i, o := range l.Streams[:3] { // the oldest first
		if o.Hub != hub || o.Rule != "events" || o.Proto != fmt.Sprint(i+1) || o.Client != fmt.Sprintf("192.0.2.%d", i) || o.User != "ann" ||
			!strings.HasPrefix(o.Host, "localhost:") || o.Path != "/events/x" || o.Since.Before(began) || o.Bytes == 0 || o.Lag != 0 || o.Topics != 2 {
			t.Errorf("%+v", o)
		}
	}
	if o := l.Streams[3]; o.Rule != "/api/*" || o.Topics != 0 || o.User != "" || o.Client != "127.0.0.1" {
		t.Errorf("%+v", o)
	}
	for query, want := range map[string]int{
		"&rule=events": 4, "&proto=2": 3, "&client=192.0.2.1": 1, "&user=ann": 3, "&user=ann&user=": 5, "&path=/api": 1, "&topic=news": 4,
		"&topic=verysecret": 3, "&topic=none": 0, "&host=example.com": 0, "&user=ann&proto=2": 1,
	} {
		if l := get[streamListing](s, "/sse/streams?hub="+hub+query); l.Total != want || len(l.Streams) != want {
			t.Errorf("%s: %+v, want %d", query, l, want)
		}
	}
	if l := get[streamListing](s, "/sse/streams?limit=1&hub="+hub); l.Total != 5 || len(l.Streams) != 1 {
		t.Errorf("%+v", l)
	}
	if _, body := s.requestAdmin("GET", "/sse/streams"); strings.Contains(body, "verysecret") {
		t.Errorf("it shows a secret: %s", body)
	}
	events.close()
	waitFor(t, "the list without who has left", func() bool { return get[streamListing](s, "/sse/streams?hub="+hub).Total == 4 })
}

func TestTopicListShowsSubscribedTopics(t *testing.T) {
	s, hub := authenticatedSite(t)
	s.open("HTTP/1.1", "/events/x?topic=orders")
	s.open("HTTP/3.0", "/events/x")
	s.open("HTTP/2.0", "/api/x").next()
	before := time.Now()
	s.do("POST", "/hooks/a?topic=orders", "1", "X-Id", "1")
	s.do("POST", "/hooks/a?topic=nobody's", "2")
	l := get[topicListing](s, "/sse/topics?hub="+hub)
	if l.Total != 2 || len(l.Topics) != 2 {
		t.Fatalf("%+v", l)
	}
	if o := l.Topics[0]; o.Hub != hub || o.Topic != "news" || o.Followers != 2 || o.Last != nil {
		t.Errorf("%+v", o)
	}
	if o := l.Topics[1]; o.Topic != "orders" || o.Followers != 1 || o.Last == nil || o.Last.ID == "" || o.Last.Time.Before(before) {
		t.Errorf("%+v", o)
	}
	for query, want := range map[string]string{
		"prefix=ord": "orders", "prefix=x": "", "limit=1": "news", "limit=0": "",
		"topic=" + url.QueryEscape("nobody's"): "nobody's", "topic=orders&topic=news": "news,orders", "topic=none": "", "topic=%00poll/": "",
	} {
		var names []string
		for _, o := range get[topicListing](s, "/sse/topics?hub="+hub+"&"+query).Topics {
			names = append(names, o.Topic)
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestOperatorEndsStreamsOfUserAndClientsResume(t *testing.T) {
	s, hub := authenticatedSite(t)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			ann := s.open(protocol, "/events/x", "Authorization", basicAuth("ann"))
			zoe := s.open(protocol, "/events/x", "Authorization", basicAuth("zoe"))
			s.do("POST", "/hooks/a?topic=news", "1")
			last := ann.expect("", "1")
			zoe.expect("", "1")
			if status, body := s.requestAdmin("DELETE", "/sse/streams?user=ann&hub="+hub); status != http.StatusOK || body != "{\"ended\":1}\n" {
				t.Errorf("%d %s", status, body)
			}
			ann.ended()
			s.do("POST", "/hooks/a?topic=news", "2")
			zoe.expect("", "2")
			again := s.open(protocol, "/events/x", "Authorization", basicAuth("ann"), "Last-Event-ID", last.ID)
			again.expect("", "2")
			again.close()
			zoe.close()
			waitFor(t, "no stream", func() bool { return get[streamListing](s, "/sse/streams?hub="+hub).Total == 0 })
		})
	}
	s.wantMetric(hub, `streams_ended_total{reason="ended by the operator",rule="events"}`, 3)
	s.wantMetric(hub, `streams_opened_total{rule="events",start="new"}`, 6)
	s.wantMetric(hub, `streams_opened_total{rule="events",start="resumed"}`, 3)
	s.wantMetric(hub, `streams_opened_total{rule="events",start="reset"}`, 0)
	s.wantMetric(hub, `rule_lag_events{rule="events"}`, 0)
	s.open("HTTP/2.0", "/events/x", "Last-Event-ID", "garbage").next()
	s.wantMetric(hub, `streams_opened_total{rule="events",start="reset"}`, 1)
	s.open("HTTP/2.0", "/api/x", "Last-Event-ID", "garbage").next()
	s.wantMetric(hub, `streams_opened_total{rule="/api/*",start="reset"}`, 1)
}

func TestEndStreamsRequiresFilter(t *testing.T) {
	s, hub := authenticatedSite(t)
	c := s.open("HTTP/2.0", "/events/x")
	for query, says := range map[string]string{
		"": "name the streams", "?usr=ann&hub=" + hub: `unknown filter \"usr\"`, "?user=": "user is empty", "?user=%zz": "invalid", "?limit=1": `unknown filter \"limit\"`,
	} {
		if status, body := s.requestAdmin("DELETE", "/sse/streams"+query); status != http.StatusBadRequest || !strings.Contains(body, says) {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
	if status, body := s.requestAdmin("DELETE", "/sse/streams?user=nobody&hub="+hub); status != http.StatusOK || body != "{\"ended\":0}\n" {
		t.Errorf("%d %s", status, body)
	}
	s.do("POST", "/hooks/a?topic=news", "1")
	c.expect("", "1")
	for _, bad := range []string{"/sse/topics?limit=many", "/sse/streams?limit=-1", "/sse/streams?usr=ann"} {
		if status, _ := s.requestAdmin("GET", bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, status)
		}
	}
	if status, _ := s.requestAdmin("POST", "/sse/streams"); status != http.StatusMethodNotAllowed {
		t.Errorf("a POST is answered with %d", status)
	}
}
