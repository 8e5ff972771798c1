package poll

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"time"
)

// sessions finds views by the cookies that their polls carry. The poller's mutex
// guards it. Views that share a document among principals aren't in it: their
// polls find out about each principal.
type sessions map[uint64][]*view

// maxSessionCookies is how many cookies of a view are in the index.
const maxSessionCookies = 50

// cookiePairs returns the first pairs of the Cookie fields, name=value.
func cookiePairs(fields []string) (pairs []string) {
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			if pair = strings.Trim(pair, " \t"); pair != "" && len(pairs) < maxSessionCookies {
				pairs = append(pairs, pair)
			}
		}
	}
	return pairs
}

func (s sessions) add(v *view) {
	for _, pair := range cookiePairs(v.target.principal.header["Cookie"]) {
		key := maphash.String(seed, pair)
		s[key] = append(s[key], v)
	}
}

func (s sessions) remove(v *view) {
	for _, pair := range cookiePairs(v.target.principal.header["Cookie"]) {
		key := maphash.String(seed, pair)
		if s[key] = slices.DeleteFunc(s[key], func(other *view) bool { return other == v }); len(s[key]) == 0 {
			delete(s, key)
		}
	}
}

// KnowsSession reports whether a view's polls carry one of a request's cookies.
func (p *Poller) KnowsSession(r *http.Request) bool {
	if len(r.Header["Cookie"]) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) == 0 {
		return false
	}
	return slices.ContainsFunc(cookiePairs(r.Header["Cookie"]), func(pair string) bool { return len(p.sessions[maphash.String(seed, pair)]) > 0 })
}

// RecheckSessions makes the views be polled at once whose polls carry a cookie of
// a request that the response changes or removes: the backend may decide
// otherwise about the viewers now, after a logout for example.
func (p *Poller) RecheckSessions(hostname string, cookies []string, response http.Header) {
	if p.config.RefreshOff {
		return
	}
	for _, pair := range changedCookies(cookies, response["Set-Cookie"], time.Now()) {
		p.recheckSession(hostname, pair)
	}
}

func (p *Poller) recheckSession(hostname, pair string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.sessions[maphash.String(seed, pair)] {
		if v.target.hostname == hostname {
			v.loop.refresh()
		}
	}
}

// changedCookies returns the pairs of Cookie fields that Set-Cookie fields change
// or remove. A cookie that is set to the value that it has is not changed.
func changedCookies(fields, set []string, now time.Time) (changed []string) {
	pairs := cookiePairs(fields)
	for _, line := range set[:min(len(set), maxSessionCookies)] {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			continue
		}
		written, _, _ := strings.Cut(line, ";")
		removed := cookie.MaxAge < 0 || cookie.MaxAge == 0 && !cookie.Expires.IsZero() && cookie.Expires.Before(now)
		for _, pair := range pairs {
			name, _, _ := strings.Cut(pair, "=")
			if strings.Trim(name, " \t") == cookie.Name && (removed || strings.Trim(written, " \t") != pair) {
				changed = append(changed, pair)
			}
		}
	}
	return changed
}
