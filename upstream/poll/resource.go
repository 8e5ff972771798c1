package poll

import (
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

// resource holds what the poller has learned about a URL from its responses. All
// views of the URL share it. The poller's mutex guards it.
type resource struct {
	views        int             // number of views of the URL
	version      int             // changes with what the view keys depend on
	varies       map[string]bool // the vary candidates that separate its viewers
	cacheability cacheability
	redirects    bool        // a view had a document, and then a temporary redirect
	expiry       *time.Timer // runs while the URL has no views; nil before
}

// cacheability is whether several principals may share a response (RFC 9111
// §5.2.2).
type cacheability int

const (
	unknownCacheability cacheability = iota
	cacheable
	// noLongerPublic is final: each change of cacheability makes all viewers
	// reconnect, and a backend may alternate with each response.
	noLongerPublic
)

func (r *resource) stopExpiry() {
	if r.expiry != nil {
		r.expiry.Stop()
	}
}

// resourceMemory is how long the poller remembers a URL without views. Later
// viewers get separate views at once, instead of one view that is split again.
const resourceMemory = 10 * time.Minute

// retireResourceLocked removes the resource of a URL without views: after
// resourceMemory, or at once if it holds nothing of use or there are too many.
func (p *Poller) retireResourceLocked(key string, r *resource) {
	if p.retired || len(r.varies) == 0 && r.cacheability != noLongerPublic && !r.redirects || len(p.resources) > 2*p.config.MaxViews {
		delete(p.resources, key)
		return
	}
	r.expiry = time.AfterFunc(resourceMemory, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.resources[key] == r && r.views == 0 {
			delete(p.resources, key)
		}
	})
}

// maxVaries limits the headers that separate a URL's viewers by Vary.
const maxVaries = 50

// addVary records headers that separate the URL's viewers.
func (r *resource) addVary(names []string) {
	for _, name := range names {
		if len(r.varies) == maxVaries || r.varies[name] {
			continue
		}
		if r.varies == nil {
			r.varies = make(map[string]bool)
		}
		r.varies[name] = true
		r.version++
	}
}

// setPublic records whether the newest response may be shared.
func (r *resource) setPublic(forAll bool) {
	switch {
	case forAll && r.cacheability == unknownCacheability:
		r.cacheability = cacheable
	case !forAll && r.cacheability == cacheable:
		r.cacheability = noLongerPublic
	default:
		return
	}
	r.version++
}

// isCacheableForAll reports whether a response may be shown to other principals:
// it says so (RFC 9111 §5.2.2.9), and nothing else in it forbids it.
func isCacheableForAll(h http.Header) bool {
	if len(h["Set-Cookie"]) > 0 || len(h["Cache-Control"]) == 0 {
		return false
	}
	for name := range listMembers(h, "Vary") {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if name == "*" || credentials[name] || mayBeAddress(name) {
			return false
		}
	}
	public := false
	for name := range directives(h) {
		switch name {
		case "public":
			public = true
		case "private", "no-store":
			return false
		}
	}
	return public
}

// candidatesIn returns the vary candidates and the ignored headers that a
// response's Vary names; "*" names all candidates, and no ignored header: what
// polls don't carry decides nothing.
func (c *Config) candidatesIn(h http.Header) []string {
	var names []string
	for name := range listMembers(h, "Vary") {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if name == "*" {
			for candidate := range varyCandidates {
				names = append(names, candidate)
			}
		} else if varyCandidates[name] || c.ignores(name) && !c.varyBy.drops(name) {
			names = append(names, name)
		}
	}
	return names
}

// listMembers yields the members of a list header (RFC 9110 §5.6.1).
func listMembers(h http.Header, name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, value := range h.Values(name) {
			for member := range strings.SplitSeq(value, ",") {
				if member = strings.TrimSpace(member); member != "" && !yield(member) {
					return
				}
			}
		}
	}
}
