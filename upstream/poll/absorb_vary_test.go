package poll_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// A poll without a header shows nothing of the response to a request with it.
func TestRequestFromWhichVaryTakesAnythingReachesBackend(t *testing.T) {
	for _, test := range []struct {
		vary     []string
		viewer   []string
		request  []string
		absorbed bool
	}{
		{[]string{"none"}, nil, nil, true},
		{[]string{"none"}, nil, []string{"X-Api-Key", "k"}, false},
		{[]string{"none"}, nil, []string{"X-Api-Key", ""}, false},
		{[]string{"none"}, []string{"X-Api-Key", "k"}, []string{"X-Api-Key", "k"}, false},
		{[]string{"none"}, nil, []string{"Authorization", "Bearer k"}, false},
		{[]string{"none"}, nil, []string{"Cookie", "session=k"}, false},
		{[]string{"none"}, nil, []string{"X-Http-Method-Override", "DELETE"}, false},
		{[]string{"none"}, nil, []string{"Connection", "X-Api-Key", "X-Api-Key", "k"}, false},
		{[]string{"none"}, nil, []string{"User-Agent", "curl", "Accept-Language", "de", "Dnt", "1", "Accept-Encoding", "gzip", "X-Request-Id", "7"}, true},
		{[]string{"none"}, []string{"X-Forwarded-Proto", "https"}, []string{"X-Forwarded-Proto", "https"}, true},
		{[]string{"X-Api-Key"}, []string{"X-Api-Key", "k"}, []string{"X-Api-Key", "k"}, true},
		{[]string{"X-Api-Key"}, []string{"X-Api-Key", "k"}, []string{"X-Api-Key", "k", "X-Tenant", "t"}, false},
		{[]string{"X-Api-Key"}, []string{"X-Api-Key", "k"}, []string{"X-Api-Key", "k", "Cookie", "a=1"}, false},
		{[]string{"X-Api-Key"}, []string{"X-Api-Key", "k"}, []string{"Connection", "X-Api-Key", "X-Api-Key", "k"}, false},
		{[]string{"Authorization"}, []string{"Authorization", "k"}, []string{"Authorization", "k"}, true},
		{[]string{"Authorization"}, []string{"Authorization", "k"}, []string{"Authorization", "k", "Cookie", "a=1"}, false},
		{[]string{"Cookie"}, []string{"Cookie", "a=1; b=2"}, []string{"Cookie", "a=1; b=2"}, true},
		{[]string{"Cookie:a"}, []string{"Cookie", "a=1"}, []string{"Cookie", "a=1"}, true},
		{[]string{"Cookie:a"}, []string{"Cookie", "a=1; ads=2"}, []string{"Cookie", "a=1"}, true},
		{[]string{"Cookie:a"}, []string{"Cookie", "a=1; ads=2"}, []string{"Cookie", "a=1; ads=2"}, false},
		{[]string{"Cookie:a"}, []string{"Cookie", "a=1"}, []string{"Cookie", "a=1", "Cookie", "b=2"}, false},
		{[]string{"Cookie:a"}, nil, []string{"Cookie", "b=2"}, false},
		{nil, []string{"X-Api-Key", "k"}, []string{"X-Api-Key", "k"}, true},
		{nil, nil, []string{"Connection", "X-Api-Key", "X-Api-Key", "k"}, false},
		{nil, nil, []string{"Connection", "keep-alive"}, true},
		{nil, []string{"X-Forwarded-For", "192.0.2.1"}, []string{"X-Forwarded-For", "192.0.2.2"}, true},
	} {
		c := absorbing
		c.Vary = test.vary
		within(t, c, func(e *env) {
			e.set(asJSON("1"))
			e.subscribe(newRequest("/doc", test.viewer...)).want(t, "1")
			if got := e.get(http.MethodGet, test.request...) != nil; got != test.absorbed {
				t.Errorf("vary %v, a viewer with %q, a request with %q: absorbed: %v", test.vary, test.viewer, test.request, got)
			}
		})
	}
}

func TestPublicResponseIsAbsorbedWhateverVaryTakes(t *testing.T) {
	within(t, poll.Config{Interval: second, Absorb: true, Vary: []string{"none"}}, func(e *env) {
		e.set(asJSON("1", "Cache-Control", "public"))
		e.subscribe(newRequest("/doc"))
		e.wantAbsorbed(http.StatusOK, "1", "X-Api-Key", "k", "Cookie", "a=1", "Authorization", "x")
		e.set(asJSON("2", "Cache-Control", "public", "Vary", "X-Api-Key"))
		advance(2 * time.Second)
		e.wantAbsorbed(http.StatusOK, "2", "Cookie", "a=1")
		e.wantNotAbsorbed("X-Api-Key", "k")
	})
}

// With share, polls carry credentials, and vary takes other headers only.
func TestVaryWithShareTakesOtherHeadersFromAbsorb(t *testing.T) {
	c := absorbing
	c.Share, c.Vary = "checked", []string{"none"}
	within(t, c, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(as("alice")).want(t, "1")
		e.wantAbsorbed(http.StatusOK, "1", "Cookie", "alice")
		e.wantNotAbsorbed("Cookie", "alice", "X-Api-Key", "k")
	})
}
