package caddysse_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"
)

// watchedSite starts a site with an admin API.
func watchedSite(t *testing.T, global, directives string) *site {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	s := startSiteWithAdmin(t, address, global, directives)
	t.Cleanup(func() { // before the site stops, which leaves the admin API running
		if err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true); err != nil {
			t.Error(err)
		}
	})
	return s
}

var hubNames atomic.Int64

// newHubName returns a name that no test of this process has used.
func newHubName() string { return fmt.Sprint("hub", hubNames.Add(1)) }

// requestAdmin sends a request to the admin API.
func (s *site) requestAdmin(method, path string) (status int, body string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.admin+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(content)
}

var sample = regexp.MustCompile(`(?m)^caddy_sse_(.+) (\S+)$`)

// scrape returns the module's metrics of a hub by name and labels, without the
// hub's label.
func (s *site) scrape(hub string) map[string]float64 {
	s.t.Helper()
	_, body := s.requestAdmin("GET", "/metrics")
	values := make(map[string]float64)
	for _, m := range sample.FindAllStringSubmatch(body, -1) {
		if name := strings.Replace(m[1], `hub="`+hub+`",`, "", 1); name != m[1] {
			values[name], _ = strconv.ParseFloat(m[2], 64)
		}
	}
	return values
}

// wantMetric waits until a metric has a value: some change after the client has
// its response.
func (s *site) wantMetric(hub, name string, want float64) {
	s.t.Helper()
	var got float64
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%s is %v, want %v; all: %v", name, got, want, s.scrape(hub))
		}
	}()
	waitFor(s.t.(*testing.T), fmt.Sprintf("%s %v", name, want), func() bool {
		got = s.scrape(hub)[name]
		return got == want
	})
}

func TestMetricsCountRulesAndContinueAfterReload(t *testing.T) {
	hub := newHubName() // other tests' counters keep their values
	doc := newDocument(`{"stock":5,"note":"` + strings.Repeat("x", 200) + `"}`)
	directives := "sse /api/* {\n hub " + hub + "\n poll 1h {\n send merge\n absorb\n max_views 2\n }\n }\n reverse_proxy " + startBackend(t, doc.ServeHTTP)
	s := watchedSite(t, "sse "+hub+" {\n drain 100ms\n }", directives)
	const rule = `rule="/api/*"`
	// All series exist from the beginning.
	for _, name := range []string{"poll_views", "poll_viewers", "poll_stale_views", "absorbed_requests_total", "poll_saved_bytes_total"} {
		if _, ok := s.scrape(hub)[name+"{"+rule+"}"]; !ok {
			t.Errorf("%s isn't there: %v", name, s.scrape(hub))
		}
	}
	c := s.open("HTTP/2.0", "/api/x?token=verysecret", "Cookie", "verysecret")
	c.next()
	s.wantMetric(hub, `streams{proto="2",`+rule+`}`, 1)
	s.wantMetric(hub, `poll_views{`+rule+`}`, 1)
	s.wantMetric(hub, `poll_viewers{`+rule+`}`, 1)
	s.wantMetric(hub, `polls_total{result="changed",`+rule+`}`, 1)
	s.wantMetric(hub, `poll_duration_seconds_count{`+rule+`}`, 1)
	s.doOver("HTTP/2.0", "GET", "/api/x?token=verysecret", "", "Cookie", "verysecret")
	s.wantMetric(hub, `absorbed_requests_total{`+rule+`}`, 1)

	s.do("PUT", "/api/x", strings.Replace(doc.content, "5", "4", 1), "Cookie", "verysecret")
	c.expect("merge", `{"stock":4}`)
	s.wantMetric(hub, `polls_total{result="changed",`+rule+`}`, 2)
	s.wantMetric(hub, `poll_saved_bytes_total{`+rule+`}`, float64(len(doc.content)-len(`{"stock":4}`)))

	other := s.open("HTTP/2.0", "/api/y")
	other.next()
	if resp := s.doOver("HTTP/2.0", "GET", "/api/z", "", "Accept", "text/event-stream"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one view too many got %d", resp.StatusCode)
	}
	s.wantMetric(hub, `refusals_total{reason="max_views",`+rule+`,status="503"}`, 1)
	other.close()
	s.wantMetric(hub, `streams_ended_total{reason="client left",`+rule+`}`, 1)
	s.wantMetric(hub, `streams{proto="2",`+rule+`}`, 1)

	before := s.scrape(hub)
	s.reload("sse "+hub+" {\n drain 100ms\n }", directives+"\n # again")
	s.reload("sse "+hub+" {\n drain 100ms\n }", directives+"\n header X-Changed 1")
	c.ended()
	s.wantMetric(hub, `streams{proto="2",`+rule+`}`, 0)
	s.wantMetric(hub, `poll_viewers{`+rule+`}`, 0)
	s.open("HTTP/3.0", "/api/new").next()
	s.wantMetric(hub, `polls_total{result="changed",`+rule+`}`, before[`polls_total{result="changed",`+rule+`}`]+1)
	s.wantMetric(hub, `streams{proto="3",`+rule+`}`, 1)
	s.wantMetric(hub, `poll_views{`+rule+`}`, 1)

	if _, body := s.requestAdmin("GET", "/metrics"); strings.Contains(body, "verysecret") || strings.Contains(body, "xxxx") || strings.Contains(body, "/api/x") {
		t.Error("the metrics contain a request")
	}
}

// listed is the admin API's list of views.
type listed struct {
	Total int
	Views []struct {
		Hub, Rule, View, Method, Host, Path string
		Query                               []string
		Shared                              bool
		Viewers, Polls, Status, Bytes       int
		Interval                            float64
		Confirmed, Changed, Stale, Due      string
	}
}

func (s *site) list(query string) (l listed) {
	s.t.Helper()
	status, body := s.requestAdmin("GET", "/sse/views"+query)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", query, status, body)
	}
	if err := json.Unmarshal([]byte(body), &l); err != nil {
		s.t.Fatal(err)
	}
	return l
}

func TestViewListShowsPolledViewsWithoutSecrets(t *testing.T) {
	doc := newDocument(`{"data":"topsecret"}`)
	failing := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/other/") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		doc.ServeHTTP(w, r)
	}
	directives := "sse /api/* {\n hub listed\n poll 1h {\n share\n }\n }\n sse /other/* {\n hub listed\n name second\n poll 1h\n }\n reverse_proxy " + startBackend(t, failing)
	s := watchedSite(t, "sse listed {\n drain 100ms\n }", directives)
	for _, who := range []string{"a", "b"} {
		s.open("HTTP/1.1", "/api/x?token=topsecret&a=1&token=2", "Cookie", "session=topsecret"+who, "Authorization", "Bearer topsecret").next()
	}
	s.open("HTTP/1.1", "/other/y").next() // stale

	l := s.list("?hub=listed")
	if l.Total != 2 || len(l.Views) != 2 {
		t.Fatalf("%+v", l)
	}
	host := fmt.Sprintf("localhost:%d", s.http)
	v := l.Views[0]
	if v.Hub != "listed" || v.Rule != "/api/*" || v.Method != "GET" || v.Host != host || v.Path != "/api/x" || fmt.Sprint(v.Query) != "[a token]" ||
		!v.Shared || v.Viewers != 2 || v.Polls != 1 || v.Status != 200 || v.Bytes != len(doc.content) || v.View == "" ||
		v.Interval <= 0 || v.Interval > 3700 || v.Confirmed == "" || v.Changed == "" || v.Stale != "" || v.Due == "" {
		t.Errorf("%+v", v)
	}
	v = l.Views[1]
	if v.Rule != "second" || v.Path != "/other/y" || v.Shared || v.Viewers != 1 || v.Status != 500 || v.Stale == "" || v.Confirmed != "" || v.Interval > 60 {
		t.Errorf("%+v", v)
	}
	for _, path := range []string{"/sse/views", "/metrics"} {
		if _, body := s.requestAdmin("GET", path); strings.Contains(body, "topsecret") {
			t.Errorf("%s shows a secret: %s", path, body)
		}
	}

	for query, want := range map[string]int{
		"?hub=listed&rule=second": 1, "?hub=listed&path=/api/": 1, "?hub=listed&path=/nowhere": 0,
		"?hub=none": 0, "?hub=listed&host=" + host: 2, "?hub=listed&host=example.com": 0,
	} {
		if l := s.list(query); l.Total != want || len(l.Views) != want {
			t.Errorf("%s: %+v", query, l)
		}
	}
	if l := s.list("?hub=listed&limit=1"); l.Total != 2 || len(l.Views) != 1 {
		t.Errorf("%+v", l)
	}
	for _, bad := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/sse/views?limit=many", http.StatusBadRequest},
		{"GET", "/sse/views?limit=-1", http.StatusBadRequest},
		{"POST", "/sse/views", http.StatusMethodNotAllowed},
	} {
		if status, _ := s.requestAdmin(bad.method, bad.path); status != bad.status {
			t.Errorf("%s %s: %d", bad.method, bad.path, status)
		}
	}

	s.reload("sse listed {\n drain 100ms\n }", directives+"\n header X-Changed 1")
	s.open("HTTP/1.1", "/api/after").next()
	waitFor(t, "list of the new configuration's view alone", func() bool {
		l := s.list("?hub=listed")
		return l.Total == 1 && l.Views[0].Path == "/api/after"
	})
}

func TestHubListAndHealthShowWhetherHubsCanStore(t *testing.T) {
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, "sse /hooks/* {\n hub "+hub+"\n webhook {\n verify none\n }\n }\n sse /events {\n hub "+hub+"\n topic hooks/a\n }")
	c := s.open("HTTP/2.0", "/events")
	for range 3 {
		s.do("POST", "/hooks/a", "x")
		c.expect("", "x")
	}
	status, body := s.requestAdmin("GET", "/sse/hubs")
	var answer struct {
		Hubs []struct {
			Hub                             string
			Published, Kept, Followers, Lag int
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	found := false
	for _, h := range answer.Hubs {
		if h.Hub == hub {
			found = h.Published == 3 && h.Kept == 3 && h.Followers == 1 && h.Lag == 0
		}
	}
	if !found {
		t.Errorf("%s", body)
	}
	if status, body := s.requestAdmin("GET", "/sse/health"); status != 200 || body != "{\"status\":\"ok\"}\n" {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := s.requestAdmin("POST", "/sse/hubs"); status != 405 {
		t.Errorf("POST: got %d", status)
	}
	s.wantMetric(hub, `events_sent_total{rule="/events"}`, 3)
	_, metrics := s.requestAdmin("GET", "/metrics")
	for _, line := range []string{`caddy_sse_events_published_total{hub="` + hub + `"} 3`, `caddy_sse_followers{hub="` + hub + `"} 1`,
		`caddy_sse_store_append_duration_seconds_count{hub="` + hub + `"} 3`, `caddy_sse_store_append_events_sum{hub="` + hub + `"} 3`, `caddy_sse_store_append_events_bucket{hub="` + hub + `",le="0"} 0`,
		`caddy_sse_store_failing{hub="` + hub + `"} 0`} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

func TestMetricsCountRefusalsByReason(t *testing.T) {
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, strings.ReplaceAll(`
	sse /open/* {
		hub HUB
		name open
		topic {query.topic}
		allow news/*
		max_streams 1
	}
	sse /jwt {
		hub HUB
		name jwt
		topic news
		jwt {
			key `+jwtSecret+`
		}
	}
	sse /hooks/* {
		hub HUB
		name hooks
		webhook {
			verify token X-Token `+jwtSecret+`
		}
	}
	sse /in {
		hub HUB
		name in
		publish {
			token `+jwtSecret+`
		}
	}`, "HUB", hub))
	s.open("HTTP/1.1", "/open/x?topic=news/1")
	for _, c := range []struct{ method, path, authorization, rule, reason, status string }{
		{"GET", "/open/x?topic=news/2", "", "open", "max_streams", "503"},
		{"GET", "/open/x?topic=verysecret", "", "open", "topic_not_allowed", "403"},
		{"GET", "/open/x", "", "open", "bad_request", "400"},
		{"GET", "/jwt", "", "jwt", "no_token", "401"},
		{"GET", "/jwt", "Bearer verysecret", "jwt", "wrong_token", "401"},
		{"GET", "/jwt", "Bearer " + signedToken(t, -time.Minute, jwt.MapClaims{}), "jwt", "expired_token", "401"},
		{"GET", "/jwt", "Bearer " + signedToken(t, time.Hour, jwt.MapClaims{"nbf": 9e9}), "jwt", "invalid_claims", "401"},
		{"POST", "/hooks/a", "", "hooks", "bad_signature", "401"},
		{"POST", "/in", "Bearer verysecret", "in", "wrong_token", "401"},
		{"POST", "/in", "Bearer " + jwtSecret, "in", "unsupported_media_type", "415"},
	} {
		name := fmt.Sprintf(`refusals_total{reason="%s",rule="%s",status="%s"}`, c.reason, c.rule, c.status)
		s.wantMetric(hub, name, 0)
		header := []string{"Accept", "text/event-stream", "Content-Type", "image/png"}
		if c.authorization != "" {
			header = append(header, "Authorization", c.authorization)
		}
		resp := s.do(c.method, c.path, "x", header...)
		if got := strconv.Itoa(resp.StatusCode); got != c.status {
			t.Errorf("%s %s: %s %s, want %s", c.method, c.path, got, resp.body, c.status)
		}
		s.wantMetric(hub, name, 1)
	}
	if _, body := s.requestAdmin("GET", "/metrics"); strings.Contains(body, "verysecret") {
		t.Error("the metrics contain a request")
	}
}

func TestMetricsCountAuthorizationChecks(t *testing.T) {
	hub := newHubName()
	backend := &repoBackend{status: map[string]int{"ann caddy": 200}}
	s := watchedSite(t, "sse "+hub, `sse /events {
		hub `+hub+`
		name events
		topic repos/{query.repo}
		authorize /api/repos/{query.repo} {
			recheck 1s
		}
	}
	reverse_proxy `+startBackend(t, backend.ServeHTTP))
	for _, result := range []string{"granted", "refused", "failed", "shared"} {
		s.wantMetric(hub, `authorize_total{result="`+result+`",rule="events"}`, 0)
	}
	s.doOver("HTTP/2.0", "GET", "/events?repo=caddy", "", "Accept", "text/event-stream", "Authorization", "zoe")
	s.wantMetric(hub, `authorize_total{result="refused",rule="events"}`, 1)
	s.wantMetric(hub, `authorize_duration_seconds_count{rule="events"}`, 1)
	for _, protocol := range protocols { // within a second
		s.open(protocol, "/events?repo=caddy", "Authorization", "ann")
	}
	atLeast := func(name string, least float64) {
		t.Helper()
		waitFor(t, name, func() bool { return s.scrape(hub)[name] >= least })
	}
	atLeast(`authorize_total{result="granted",rule="events"}`, 1)
	atLeast(`authorize_total{result="shared",rule="events"}`, 1)
	atLeast(`authorize_rechecks_total{rule="events"}`, 2)
	backend.set(func(b *repoBackend) { b.down = http.StatusServiceUnavailable })
	atLeast(`authorize_total{result="failed",rule="events"}`, 1)
	backend.set(func(b *repoBackend) { b.down, b.status = 0, nil })
	atLeast(`streams_ended_total{reason="access revoked",rule="events"}`, 3)
}
