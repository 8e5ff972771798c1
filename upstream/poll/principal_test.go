package poll_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var addressed = []string{
	"X-Forwarded-For", "203.0.113.7", "X-Real-Ip", "203.0.113.7", "Cf-Connecting-Ip", "203.0.113.7",
	"Fly-Client-Ip", "203.0.113.7", "X-Told-By", "203.0.113.7",
}

// tells is a requester of a server whose trusted proxies name addresses in
// X-Told-By.
func tells(c caller) caller {
	c.clientIP, c.clientIPHeaders = "203.0.113.7", []string{"X-Told-By"}
	return c
}

func TestAnonymousPollCarriesNoAddress(t *testing.T) {
	for name, k := range map[string]principal{
		"directly":                  {newRequest("/doc", addressed...), tells(caller{})},
		"beside a hint":             {newRequest("/doc", append([]string{"User-Agent", "curl"}, addressed...)...), tells(caller{})},
		"behind a proxy":            {newRequest("/doc", append([]string{"X-Forwarded-Proto", "https"}, addressed...)...), tells(caller{trusted: true})},
		"of a variable":             {newRequest("/doc", addressed...), tells(caller{vars: map[string]string{"role": "guest"}})},
		"with a header of no worth": {newRequest("/doc", append([]string{"X-App-Version", "3"}, addressed...)...), tells(caller{})},
		"without such headers":      {newRequest("/doc"), tells(caller{trusted: true})},
		"which Connection names":    {newRequest("/doc", append([]string{"Connection", "X-Real-IP, X-Forwarded-For, X-Told-By"}, addressed...)...), tells(caller{trusted: true})},
	} {
		for _, vary := range [][]string{nil, {"none"}} {
			within(t, poll.Config{Vary: vary}, func(e *env) {
				k.request.RemoteAddr = "198.51.100.1:5555"
				e.subscribeAs(k.request, &k.requester, "")
				want := "0.0.0.0:0"
				if k.requester.trusted {
					want = k.request.RemoteAddr // the proxy's, without which nothing of what it says counts
				}
				if got := e.last(); got.RemoteAddr != want || strings.Contains(fmt.Sprint(got.Header), "203.0.113.7") {
					t.Errorf("%s: from %s, %v", name, got.RemoteAddr, got.Header)
				}
				for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip", "X-Told-By"} {
					if got := e.last().Header[header]; !slices.Equal(got, []string{"0.0.0.0"}) {
						t.Errorf("%s: %s: %q", name, header, got)
					}
				}
				if _, sent := e.last().Header["Forwarded"]; sent {
					t.Errorf("%s: Forwarded is made up, and hides X-Forwarded-Proto", name)
				}
			})
		}
	}
}

func TestForwardedTellsNoAddressButThatItIsThere(t *testing.T) {
	within(t, poll.Config{Vary: []string{"none"}}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		for _, value := range []string{"for=203.0.113.7;proto=https", "for=10.0.0.1"} {
			e.subscribe(newRequest("/doc", "Forwarded", value))
			if got := e.last().Header["Forwarded"]; !slices.Equal(got, []string{"for=0.0.0.0"}) || e.Views() != 2 {
				t.Errorf("%s: %q, %d views", value, got, e.Views())
			}
		}
	})
}

// A client may name only headers of its connection there (RFC 9110 §7.6.1).
func TestConnectionTakesNoCredentialFromPoll(t *testing.T) {
	const all = "Cookie, authorization, X-Forwarded-For, X-Told-By, X-User"
	sent := append([]string{"Cookie", "s=1", "Authorization", "Bearer 1", "X-User", "guest"}, addressed...)
	for name, config := range map[string]poll.Config{
		"":      {},
		"vary":  {Vary: []string{"Cookie", "Authorization", "X-User"}},
		"share": {Share: "checked"},
	} {
		within(t, config, func(e *env) {
			for _, connection := range [][]string{nil, {"Connection", all}, {"Connection", "close", "Connection", all}} {
				r := newRequest("/doc", append(connection, sent...)...)
				k := tells(caller{trusted: true})
				e.subscribeAs(r, &k, "").want(t, "1")
				for _, header := range []string{"Cookie", "Authorization", "X-User", "X-Forwarded-For", "X-Told-By"} {
					if got := e.last().Header[header]; !slices.Equal(got, r.Header[header]) {
						t.Errorf("%s, %q: %s: %q is sent", name, connection, header, got)
					}
				}
				if _, sent := e.last().Header["Connection"]; sent {
					t.Errorf("%s: Connection is sent", name)
				}
			}
			if e.Views() != 1 || e.polls() != 1 {
				t.Errorf("%s: one viewer has %d views, %d polls", name, e.Views(), e.polls())
			}
			anonymous := tells(caller{trusted: true})
			if e.subscribeAs(newRequest("/doc", "Connection", all), &anonymous, ""); config.Share == "" && e.Views() != 2 {
				t.Errorf("%s: a stranger shares the view", name)
			}
		})
	}
}

// The server may have determined the address from a header that an earlier handler
// has removed.
func TestViewersWithCredentialsShareOnlyAtOneAddress(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		for _, ip := range []string{"203.0.113.7", "10.0.0.1"} {
			e.subscribeAs(newRequest("/doc", "Cookie", "consent=yes"), &caller{trusted: true, clientIP: ip}, "")
		}
		if e.Views() != 2 {
			t.Errorf("%d views", e.Views())
		}
	})
}

// A response that varies by the address is nobody else's, whatever header the
// address is in.
func TestResponseVaryingByAddressIsNotShared(t *testing.T) {
	for _, header := range []string{"X-Forwarded-For", "x-told-by", "Fly-Client-IP"} {
		within(t, poll.Config{Absorb: true}, func(e *env) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				return asJSON(fmt.Sprintf("%q", r.Header.Get(header)), "Cache-Control", "public", "Vary", header), nil
			})
			for _, address := range []string{"203.0.113.7", "10.0.0.1"} {
				k := tells(caller{trusted: true, clientIP: address})
				e.subscribeAs(newRequest("/doc", "Cookie", "a=1", header, address), &k, "").want(t, fmt.Sprintf("%q", address))
			}
			anonymous := tells(caller{trusted: true})
			e.subscribeAs(newRequest("/doc", header, "203.0.113.7"), &anonymous, "").want(t, `"0.0.0.0"`)
			w := httptest.NewRecorder()
			if e.Absorb(w, with(httptest.NewRequest(http.MethodGet, "/doc", nil), func(r *http.Request) { r.Header.Set(header, "10.0.0.1") }), &anonymous) {
				t.Errorf("%s: an ordinary request gets %q", header, w.Body)
			}
		})
	}
}

func TestPersonalPollCarriesViewersAddress(t *testing.T) {
	for name, k := range map[string]principal{
		"Authorization": a("/doc", append([]string{"Authorization", "x"}, addressed...)...),
		"Cookie":        a("/doc", append([]string{"Cookie", "x"}, addressed...)...),
		"user":          {newRequest("/doc", addressed...), caller{user: "ann"}},
		"certificate":   {with(newRequest("/doc", addressed...), certificate("1")), caller{}},
		"proxy":         {newRequest("/doc", append([]string{"Cookie", "x"}, addressed...)...), caller{trusted: true}},
	} {
		within(t, poll.Config{}, func(e *env) {
			k.request.RemoteAddr = "198.51.100.1:5555"
			e.subscribeAs(k.request, &k.requester, "")
			if got := e.last(); got.RemoteAddr != "198.51.100.1:5555" || got.Header.Get("X-Forwarded-For") != "203.0.113.7" {
				t.Errorf("%s: from %s, %v", name, got.RemoteAddr, got.Header)
			}
		})
	}
}

// A backend may decide by address in addition to credentials, and a cookie may
// be the same for all viewers.
func TestAnonymousViewersGetNothingByAnothersAddress(t *testing.T) {
	for name, c := range map[string][2]principal{
		"a common cookie": {
			{request: with(newRequest("/doc", "Cookie", "consent=yes"), from("10.0.0.1:1"))},
			{request: with(newRequest("/doc", "Cookie", "consent=yes"), from("203.0.113.9:2"))},
		},
		"a common header": {
			{request: with(newRequest("/doc", "X-App-Version", "3"), from("10.0.0.1:1"))},
			{request: with(newRequest("/doc", "X-App-Version", "3"), from("203.0.113.9:2"))},
		},
		"behind a proxy": {
			{newRequest("/doc", "Cookie", "consent=yes", "X-Forwarded-For", "10.0.0.1"), caller{trusted: true}},
			{newRequest("/doc", "Cookie", "consent=yes", "X-Forwarded-For", "203.0.113.9"), caller{trusted: true}},
		},
		"by an address that is made up": {
			{newRequest("/doc", "Cookie", "consent=yes", "X-Forwarded-For", "10.0.0.1"), caller{trusted: true}},
			{request: with(newRequest("/doc", "Cookie", "consent=yes", "X-Forwarded-For", "10.0.0.1"), from("203.0.113.9:2"))},
		},
	} {
		within(t, poll.Config{}, func(e *env) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				address := r.RemoteAddr
				if forwarded := r.Header.Get("X-Forwarded-For"); forwarded != "" && strings.HasPrefix(address, "192.0.2.1:") {
					address = forwarded // by the proxy that httptest is
				}
				if strings.HasPrefix(address, "10.") {
					return document(`"secret"`), nil
				}
				return document(`"public"`), nil
			})
			e.subscribeAs(c[0].request, &c[0].requester, "")
			if got := e.subscribeAs(c[1].request, &c[1].requester, "").got(); !slices.Equal(got, []string{`"public"`}) {
				t.Errorf("%s: %q", name, got)
			}
		})
	}
}
