package poll_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// railsTakesForBrowser is BROWSER_LIKE_ACCEPTS of Rails' ActionDispatch.
var railsTakesForBrowser = regexp.MustCompile(`,\s*\*/\*|\*/\*\s*,`)

func TestDefaultAcceptIsNoBrowsersAndPrefersJSON(t *testing.T) {
	if railsTakesForBrowser.MatchString(subrequest.DefaultAccept) {
		t.Error("Rails takes it for a browser's")
	}
	accept := http.Header{"Accept": {subrequest.DefaultAccept}}
	if !stream.PrefersType(accept, "application/json", true) {
		t.Error("it doesn't name JSON")
	}
	for _, other := range []string{"text/html", "text/plain", "application/xml", "application/vnd.api+json", "image/png"} {
		if stream.PrefersType(accept, other, false) {
			t.Errorf("it prefers %s", other)
		}
	}
}

func TestPollsAcceptWhatTheRuleSays(t *testing.T) {
	const api = "application/vnd.api+json, text/*;q=0.5"
	for _, absorb := range []bool{false, true} {
		within(t, poll.Config{Accept: api, Absorb: absorb}, func(e *env) {
			for _, viewers := range []string{"text/event-stream", "text/event-stream, text/html", "text/event-stream, */*;q=0.1"} {
				e.subscribe(with(newRequest("/doc"), func(r *http.Request) { r.Header.Set("Accept", viewers) })).want(t, "1")
				if got := e.last().Header["Accept"]; !slices.Equal(got, []string{api}) {
					t.Errorf("%q is sent for %q", got, viewers)
				}
			}
			if e.Views() != 1 {
				t.Errorf("%d views", e.Views())
			}
			if absorbed := e.Absorb(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/doc", nil), &caller{}); absorbed && !absorb {
				t.Error("an ordinary request is absorbed")
			}
		})
	}
}

func TestAcceptThatPollsCannotSendIsRefused(t *testing.T) {
	for accept, want := range map[string]string{
		"json":                            "application/vnd.api+json",
		"application/json,":               "no media type",
		"application/json;q=2":            "no media type",
		"application/json;q=x":            "no media type",
		"application/json;":               "",
		"*/*":                             "",
		"application/json, text/html;q=0": "",
		"Text/Event-Stream":               "asks for a stream",
		"application/json, text/event-stream;q=0.5": "asks for a stream",
		"application/json\r\nX-User: admin":         "no media type",
	} {
		err := (&poll.Config{Accept: accept}).Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", accept, err, want)
		}
	}
}
