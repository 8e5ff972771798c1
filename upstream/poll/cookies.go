package poll

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// cookieJar keeps the cookies that the backend sets in responses to the polls of
// an anonymous view, and polls send them back: otherwise each poll may begin a
// session at the backend. Viewers get none of them, and send none into it. Only the
// worker that polls uses it.
//
// A session may outlive the reason why the backend has begun it, such as a link
// that is withdrawn. So the jar forgets all after cookieAge, and the next poll is
// again one without a cookie.
type cookieJar struct {
	url   *url.URL
	jar   *cookiejar.Jar
	began time.Time // the poll without a cookie
}

const (
	// cookieAge is how long polls send a session's cookies.
	cookieAge = time.Minute
	// maxCookies limits the bytes of the cookies in a jar.
	maxCookies = 8 << 10
)

// cookieURL returns the URL that the cookies of a target's polls are about.
func (t *target) cookieURL() *url.URL {
	u := &url.URL{Scheme: "http", Host: t.host, Path: t.path}
	if t.original.URL != nil { // which a cookie's Path is about
		u.Path = t.original.URL.Path
	}
	if t.overTLS {
		u.Scheme = "https"
	}
	return u
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

// addCookies adds the cookies of the jar to a poll's headers. It returns false if
// there are none.
func (v *view) addCookies(h http.Header, now time.Time) bool {
	j := v.cookies
	if j == nil || v.state.isShared() { // whose polls are different principals'
		return false
	}
	request := &http.Request{Header: make(http.Header)}
	if now.Sub(j.began) < cookieAge {
		for _, cookie := range j.jar.Cookies(j.url) {
			request.AddCookie(cookie)
		}
	}
	cookies := request.Header["Cookie"]
	if len(cookies) == 0 || len(cookies[0]) > maxCookies {
		v.cookies = nil
		return false
	}
	h["Cookie"] = cookies
	return true
}

// keepCookies keeps the cookies that a response to a poll sets, if polls may send
// them.
func (v *view) keepCookies(h http.Header, now time.Time) {
	if len(h["Set-Cookie"]) == 0 || v.state.isShared() || !v.poller.config.keepsCookies(v.target) {
		return
	}
	cookies := (&http.Response{Header: h}).Cookies()
	if len(cookies) == 0 {
		return
	}
	if v.cookies == nil {
		jar, _ := cookiejar.New(nil) // never fails
		v.cookies = &cookieJar{url: v.target.cookieURL(), jar: jar, began: now}
	}
	v.cookies.jar.SetCookies(v.cookies.url, cookies)
}
