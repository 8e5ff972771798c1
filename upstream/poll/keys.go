package poll

import (
	"net/http"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// keyLocked returns the view key of a request. Viewers with the same key share a
// view.
func (p *Poller) keyLocked(t *target) string {
	var varies map[string]bool
	if known := p.resources[t.shared]; known != nil {
		varies = known.varies
	}
	return p.hub.Digest(t.key(p.sharesLocked(t), varies)...)
}

// isKeyCurrent reports whether the key of a view is still that of its target.
func (p *Poller) isKeyCurrent(v *view) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !v.removed && v.resource.version == v.version { // as when the key was made
		return true
	}
	return v.state.hasKey(p.keyLocked(v.target))
}

// sharesLocked reports whether all principals that may see the document share a
// view.
func (p *Poller) sharesLocked(t *target) bool {
	known := p.resources[t.shared]
	return p.config.Share != "" || known != nil && known.cacheability == cacheable
}

// learn records what a response says about the requests that have the same
// response: a refusal, a redirect or a failure by its Vary header, a document
// also by whether it is public.
func (p *Poller) learn(v *view, resp *subrequest.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.removed {
		return // the resource may be gone, too
	}
	known := v.resource
	known.addVary(p.config.candidatesIn(resp.Header))
	confirms := resp.Status == http.StatusNotModified && resp.Header.Get("Cache-Control") != ""
	if p.config.varyBy == nil && (isDocument(resp.Status) || confirms) {
		known.setPublic(!resp.OfSession && isCacheableForAll(resp.Header) && !variesBy(resp.Header, v.target.principal.trusted))
	}
}

// rekey moves a view to the key that it has by now. It returns false if that key
// has another view.
func (p *Poller) rekey(v *view) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(v.target)
	if v.removed || p.views[key] != nil {
		return false
	}
	delete(p.views, v.key)
	p.views[key] = v
	v.renameLocked(key, p.sharesLocked(v.target))
	return true
}
