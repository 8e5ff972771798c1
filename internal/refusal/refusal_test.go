package refusal_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// write answers a request that accepts a type.
func write(e *refusal.Error, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	e.Write(w, r)
	return w
}

func TestRefusalIsStatusAndLineOfText(t *testing.T) {
	for _, accept := range []string{"", "*/*", "text/event-stream", "application/json"} {
		w := write(refusal.Newf(http.StatusForbidden, "the topic %q is not allowed here", "<a>"), accept)
		if w.Code != http.StatusForbidden || w.Body.String() != "the topic \"<a>\" is not allowed here\n" {
			t.Errorf("%s: %d %q", accept, w.Code, w.Body)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Retry-After": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s: %q", accept, name, got)
			}
		}
	}
}

func TestRefusalIsProblemDetailsOnRequest(t *testing.T) {
	w := write(refusal.Newf(http.StatusBadRequest, `a "quoted" reason`), "text/event-stream, application/problem+json;q=0.5")
	var problem map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Fatal(err)
	}
	if len(problem) != 3 || problem["status"] != 400.0 || problem["title"] != "Bad Request" || problem["detail"] != `a "quoted" reason` {
		t.Errorf("%v", problem)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Error(got)
	}
}

func TestRetryAfterRoundsUpToSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", -time.Second: "", 1: "1", time.Second: "1", time.Second + 1: "2", 90 * time.Second: "90",
	} {
		if got := write(&refusal.Error{Status: 503, RetryAfter: d}, "").Header().Get("Retry-After"); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestCauseIsOnlyForTheLog(t *testing.T) {
	cause := errors.New("secret cause")
	e := &refusal.Error{Status: 503, Reason: "try again", Err: cause}
	if !errors.Is(e, cause) || e.Error() != "503: try again: secret cause" {
		t.Error(e)
	}
	if got := (&refusal.Error{Status: 404, Reason: "no"}).Error(); got != "404: no" {
		t.Error(got)
	}
	for _, accept := range []string{"", "application/problem+json"} {
		if body := write(e, accept).Body.String(); strings.Contains(body, "secret") {
			t.Error(body)
		}
	}
}

func TestRefusalHasChallenge(t *testing.T) {
	e := &refusal.Error{Status: http.StatusUnauthorized, Reason: "a token is missing", Challenge: `Bearer realm="sse"`}
	if got := write(e, "").Header().Get("WWW-Authenticate"); got != `Bearer realm="sse"` {
		t.Errorf("%q", got)
	}
	if got := write(refusal.Newf(http.StatusForbidden, "no"), "").Header(); got["Www-Authenticate"] != nil {
		t.Errorf("%q", got)
	}
}
