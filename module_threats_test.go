package caddysse_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
)

// Only the admin API serves the operator's lists, and no page in the operator's
// browser can request them.
func TestAdminAPIIsUnreachableFromSitesAndForeignPages(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusGone, "no more"))
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, fmt.Sprintf(forwardAsyncSite, hub, address))
	s.sendToShop("HTTP/1.1", "d1", `{"order":1}`)
	s.wantMetric(hub, `webhook_forwards_total{result="dead",rule="/hooks/shop"}`, 1)
	_, text := s.requestAdmin("GET", "/sse/deadletters?hub="+hub)
	var list struct{ Letters []struct{ ID string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Letters) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	for _, path := range []string{"/sse/views", "/sse/hubs", "/sse/health", "/sse/refusals", "/sse/deadletters"} {
		for _, protocol := range protocols {
			if resp := s.doOver(protocol, "GET", path, ""); resp.StatusCode != http.StatusGone || resp.body != "no more" {
				t.Errorf("%s: the site answers %s with %s %q", protocol, path, resp.Status, resp.body)
			}
		}
	}
	retry := "/sse/deadletters?id=" + list.Letters[0].ID
	for name, change := range map[string]func(r *http.Request){
		"a form of another site's page":     func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"one of an old browser":             func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "navigate") },
		"a request without CORS":            func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "no-cors") },
		"a page in a frame of no origin":    func(r *http.Request) { r.Header.Set("Origin", "null") },
		"a name that leads here, rebinding": func(r *http.Request) { r.Host = "evil.example" },
	} {
		for method, path := range map[string]string{"GET": "/sse/views", "POST": retry} {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.admin+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			change(req)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %s %s: %s %v", name, method, path, resp.Status, resp.Header)
			}
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	s.wantMetric(hub, `webhook_forwards_total{result="dead",rule="/hooks/shop"}`, 1)
	if status, _ := s.requestAdmin("POST", retry); status != http.StatusAccepted {
		t.Errorf("the operator got %d", status)
	}
	s.wantMetric(hub, `webhook_forwards_total{result="dead",rule="/hooks/shop"}`, 2)
}

// A client that guesses the ids of topics it may not read can't tell which are
// there: a stream begins as it does after an id that nobody published.
func TestIDsOfOtherTopicsAreNotDisclosed(t *testing.T) {
	hub := newHubName()
	s := startSite(t, "sse "+hub, fmt.Sprintf(`
		sse /hooks/* {
			hub %[1]s
			webhook {
				verify none
				topic {path.1}
				id    {query.id}
			}
		}
		sse /events {
			hub   %[1]s
			topic news
		}
		sse /doc {
			hub  %[1]s
			poll 1h
		}
		respond /doc "{}"`, hub))
	if id := s.publish("orders?id=order-1001-paid", "{}"); id != "order-1001-paid" {
		t.Fatalf("published under the id %q", id)
	}
	s.open("HTTP/1.1", "/doc").expect("", "{}") // the view publishes nothing afterwards
	begin := func(protocol, path, parameter, id string) event.Event {
		if parameter == "" {
			return s.open(protocol, path, "Last-Event-ID", id).next()
		}
		return s.open(protocol, path+"?"+parameter+"="+id).next()
	}
	for _, path := range []string{"/events", "/doc"} {
		for _, protocol := range protocols {
			for _, parameter := range []string{"", "last_event_id", "lastEventId"} {
				unknown, foreign := begin(protocol, path, parameter, "order-9999-paid"), begin(protocol, path, parameter, "order-1001-paid")
				if unknown.Name != "reset" || !reflect.DeepEqual(foreign, unknown) {
					t.Errorf("%s, %s?%s: another topic's id is answered with %+v, an unknown one with %+v", protocol, path, parameter, foreign, unknown)
				}
			}
		}
	}
}

// reverse_proxy asks for gzip and unpacks it.
func TestDecompressedDocumentBeyondLimitIsRefused(t *testing.T) {
	var whole atomic.Bool
	backend := func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Errorf("the backend is asked for %q", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		for range 1 << 10 { // 1 MiB each, 1 KiB on the wire
			if _, err := zip.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
		whole.Store(true)
	}
	s := polled(t, "1h {\n max_body 64KiB\n }", backend)
	resp := s.do("GET", "/api/bomb", "", "Accept", "text/event-stream")
	if resp.StatusCode != http.StatusBadGateway || strings.Contains(resp.body, "\x00") {
		t.Errorf("got %s %.100q", resp.Status, resp.body)
	}
	if whole.Load() {
		t.Error("a GiB was read")
	}
}

// A proxy drops headers that Connection names, and some applications treat
// X_Viewer as X-Viewer. Neither lets a client pose as another viewer.
func TestPollCarriesNoSmuggledHeader(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		seen := []string{}
		for name, values := range r.Header {
			if strings.Contains(strings.ToLower(name), "viewer") {
				seen = append(seen, fmt.Sprintf("%s: %q", name, values))
			}
		}
		_ = json.NewEncoder(w).Encode(seen)
	})
	for _, vary := range []string{"", "vary X-Viewer", "share unchecked"} {
		s := startSite(t, "", `
		vars viewer nobody
		@ann header Authorization "Bearer ann"
		vars @ann viewer ann
		request_header X-Viewer {vars.viewer}
		sse /api/* {
			poll 1h {
				`+vary+`
			}
		}
		reverse_proxy `+backend)
		for _, protocol := range protocols {
			path := "/api/" + protocol
			if vary != "share unchecked" {
				s.open(protocol, path, "Authorization", "Bearer ann").expect("", `["X-Viewer: [\"ann\"]"]`)
			}
			for _, header := range [][]string{nil, {"X-Viewer", "ann"}, {"X_Viewer", "ann"}, {"x.viewer", "ann"}} {
				s.open(protocol, path, header...).expect("", `["X-Viewer: [\"nobody\"]"]`)
			}
			if protocol == "HTTP/1.1" { // the others have no Connection header
				if e := s.open(protocol, path+"/hop", "Connection", "X-Viewer").next(); strings.Contains(string(e.Data), "ann") {
					t.Errorf("%q: got %s", vary, e.Data)
				}
				s.open(protocol, path+"/hop").expect("", `["X-Viewer: [\"nobody\"]"]`)
			}
		}
		if err := s.load("", "respond over"); err != nil {
			t.Fatal(err)
		}
	}
}

// named and namedSuite match the tests that a page names: in code or, for a suite,
// in italics.
var (
	named      = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	namedSuite = regexp.MustCompile("`(storetest|e2e/[a-z]+\\.test\\.mjs)`:((?: \\*[^*]+\\*,?)+)")
	italic     = regexp.MustCompile(`\*([^*]+)\*`)
	defined    = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// Each test that the documentation names exists.
func TestEveryTestThatAPageNamesIsThere(t *testing.T) {
	tests := make(map[string]bool)
	sources := make(map[string]string) // of the suites
	err := walkSources(func(path, content string) {
		switch {
		case strings.HasSuffix(path, "_test.go"):
			for _, m := range defined.FindAllStringSubmatch(content, -1) {
				tests[m[1]] = true
			}
		case strings.HasPrefix(path, "store/storetest/"):
			sources["storetest"] += content
		case strings.HasPrefix(path, "e2e/"):
			sources[path] = content
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for page, least := range map[string]int{"docs/internals/invariants.md": 50, "docs/security.md": 50, "CONTRIBUTING.md": 1} {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		found := named.FindAllStringSubmatch(text, -1)
		for _, m := range found {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which doesn't exist", page, m[1])
			}
		}
		for _, m := range namedSuite.FindAllStringSubmatch(text, -1) {
			for _, name := range italic.FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(sources[m[1]], name[1]) {
					t.Errorf("%s names %q of %s, which doesn't exist", page, name[1], m[1])
				}
			}
		}
		if len(found) < least {
			t.Errorf("%s names %d tests only", page, len(found))
		}
	}
	rows, err := threats()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !slices.ContainsFunc([]*regexp.Regexp{named, namedSuite}, func(r *regexp.Regexp) bool { return r.MatchString(row[3]) }) {
			t.Errorf("no test is named for %q", row[1])
		}
	}
	if len(rows) < 30 {
		t.Errorf("the page has %d threats only", len(rows))
	}
}

// walkSources calls f for the Go files and end-to-end tests of the tree.
func walkSources(f func(path, content string)) error {
	return fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || len(path) > 1 && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".test.mjs"):
			return nil
		}
		content, err := os.ReadFile(path)
		f(path, string(content))
		return err
	})
}

// threats returns the rows of the table of threats.
func threats() (rows [][]string, err error) {
	content, err := os.ReadFile("docs/security.md")
	_, after, _ := strings.Cut(string(content), "\n## Threats\n")
	section, _, _ := strings.Cut(after, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---") && !strings.HasPrefix(line, "| threat ") {
			rows = append(rows, append([]string{""}, cells...))
		}
	}
	if err == nil && slices.ContainsFunc(rows, func(row []string) bool { return len(row) != 4 }) {
		err = fmt.Errorf("the table of threats has other than three columns: %q", rows)
	}
	return rows, err
}
