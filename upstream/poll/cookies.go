package poll

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// cookieJar keeps the cookies that the backend sets in responses to the polls of
// an anonymous view, and polls send them back: otherwise each poll may begin a
// session at the backend. Viewers get none of them, and send none into it. It is
// safe for concurrent use.
//
// A session may outlive the reason why the backend has begun it, such as a link
// that is withdrawn. So the jar forgets all after cookieAge, and the next poll is
// again one without a cookie.
type cookieJar struct {
	url *url.URL

	mu    sync.Mutex
	jar   *cookiejar.Jar // nil if it is empty
	began time.Time      // the poll without a cookie
}

const (
	// cookieAge is how long polls send a session's cookies.
	cookieAge = time.Minute
	// maxCookies limits the bytes of the cookies in a jar.
	maxCookies = 8 << 10
)

// newCookieJar returns a jar for the polls of a view, or nil if they must keep
// none.
func newCookieJar(t *target, c *Config) *cookieJar {
	if !c.keepsCookies(t) {
		return nil
	}
	u := &url.URL{Scheme: "http", Host: t.host, Path: t.path}
	if t.original.URL != nil { // which a cookie's Path is about
		u.Path = t.original.URL.Path
	}
	if t.overTLS {
		u.Scheme = "https"
	}
	return &cookieJar{url: u}
}

// keepsCookies reports whether polls keep the cookies of their responses. By
// default, polls with anything that may be a credential don't: its session could
// outlive it.
func (c *Config) keepsCookies(t *target) bool {
	if c.CookieJar == jarOff || t.method != http.MethodGet || t.principal.isPersonal() || t.checkFailure != nil {
		return false
	}
	if c.CookieJar == jarOn {
		return true
	}
	for name := range t.header {
		if name != "X-Requested-With" && !alwaysSent[name] && !varyCandidates[name] {
			return false
		}
	}
	for _, name := range t.queryNames() {
		if subrequest.MayBeCredential(name) {
			return false
		}
	}
	return true
}

// setHeader adds the cookies to a poll's headers. It returns false if there are
// none.
func (j *cookieJar) setHeader(h http.Header, now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.jar == nil {
		return false
	}
	if now.Sub(j.began) >= cookieAge {
		j.jar = nil
		return false
	}
	request := &http.Request{Header: make(http.Header)}
	for _, cookie := range j.jar.Cookies(j.url) {
		request.AddCookie(cookie)
	}
	cookies := request.Header["Cookie"]
	if len(cookies) == 0 || len(cookies[0]) > maxCookies {
		j.jar = nil
		return false
	}
	h["Cookie"] = cookies
	return true
}

// store keeps the cookies that a response sets.
func (j *cookieJar) store(h http.Header, now time.Time) {
	cookies := (&http.Response{Header: h}).Cookies()
	if len(cookies) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.jar == nil {
		j.jar, _ = cookiejar.New(nil) // never fails
		j.began = now
	}
	j.jar.SetCookies(j.url, cookies)
}

// jarFor returns the jar of the polls of a target; nil for none. A viewer's own
// authorization check has none, and neither has a shared view, whose polls are
// different principals'.
func (v *view) jarFor(t *target) *cookieJar {
	if t != v.target || v.state.isShared() {
		return nil
	}
	return v.cookies
}
