package poll

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/next"
)

// kept is the last answer to a poll, for ordinary requests. It isn't changed.
type kept struct {
	header http.Header
	body   []byte
	asked  time.Time // when the poll that brought or confirmed it began
}

// keep notes an answer that ordinary requests can be given, too.
func (v *view) keep(resp *next.Response, came outcome, asked time.Time) {
	if !v.poller.config.Absorb {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case came == notModified && v.kept != nil:
		k := *v.kept
		k.asked = asked
		v.kept = &k
	case resp.Status == http.StatusOK && came != failed && len(resp.Header["Set-Cookie"]) == 0:
		v.kept = &kept{resp.Header, resp.Body, asked}
	default:
		v.kept = nil
	}
}

// fresh is what an ordinary request gets at a time; nil if it has to ask the
// backend.
func (v *view) fresh(now time.Time) *kept {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.kept
	if k == nil || now.Sub(k.asked) > time.Duration(v.poller.config.Interval) || !k.asked.After(v.wrote) {
		return nil
	}
	return k
}

// Absorb answers an ordinary GET or HEAD for a document that is watched from
// its last poll, and returns true. It returns false if that must be left to the
// backend: nobody watches, the answer is older than the interval or than a
// write, or the request is one that could be answered otherwise.
func (p *Poller) Absorb(w http.ResponseWriter, r *http.Request, caller Caller) bool {
	if !p.config.Absorb || !mayAbsorb(r) {
		return false
	}
	k := p.keptFor(r, caller)
	if k == nil || !acceptable(r.Header, k.header, p.config.varyBy) {
		return false
	}
	k.write(w, r, p.hub.Digest(string(k.body)))
	p.observer.Absorbed()
	return true
}

// mayAbsorb tells whether a request leaves it open who answers it.
func mayAbsorb(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.ContentLength != 0 {
		return false
	}
	if len(r.Header["Cache-Control"]) == 0 && strings.EqualFold(r.Header.Get("Pragma"), "no-cache") { // RFC 9111 §5.4
		return false
	}
	for directive := range listed(r.Header, "Cache-Control") {
		name, value, _ := strings.Cut(directive, "=")
		switch strings.ToLower(name) {
		case "no-cache", "no-store":
			return false
		case "max-age":
			if value == "0" {
				return false
			}
		}
	}
	return true
}

// keptFor is what the request's own viewers were sent.
func (p *Poller) keptFor(r *http.Request, caller Caller) *kept {
	asStream := r
	if r.Method == http.MethodHead {
		asStream = r.Clone(r.Context())
		asStream.Method = http.MethodGet
	}
	t := newTarget(asStream, nil, caller, p.hub, p.config)
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.views[p.keyLocked(t)]
	if v == nil || v.isCheckedLocked() && v.members.byID[t.asker.id] == nil {
		return nil
	}
	return v.fresh(time.Now())
}

// acceptable tells whether the client would have been given this answer: it
// takes nothing more gladly. Where the backend decides by what the client
// takes, it must have said so, or who knows what it would be given; and so with
// all else by which the backend decides and which polls don't send.
func acceptable(request, answer http.Header, by *varyBy) bool {
	if len(request["Origin"]) > 0 && answer.Get("Access-Control-Allow-Origin") != "*" {
		return false // polls are made for no page, and what lets one read is not in the answer
	}
	decides := false
	for name := range listed(answer, "Vary") {
		switch name = textproto.CanonicalMIMEHeaderKey(name); {
		case name == "*", addresses[name]:
			return false
		case name == "Accept":
			decides = true
		case name != "Accept-Encoding" && len(request[name]) > 0 && !isSent(name, by):
			return false
		}
	}
	return stream.Prefers(request, answer.Get("Content-Type"), decides)
}

func (k *kept) write(w http.ResponseWriter, r *http.Request, digest string) {
	header := w.Header()
	CopyAnswer(header, k.header)
	if header.Get("ETag") == "" {
		header.Set("ETag", `"`+digest+`"`)
	}
	seconds, _ := deltaSeconds(k.header.Get("Age"))
	header.Set("Age", strconv.FormatInt(seconds+int64(time.Since(k.asked)/time.Second), 10))
	header.Add("Cache-Status", "caddy-sse; hit") // RFC 9211
	modified, err := http.ParseTime(k.header.Get("Last-Modified"))
	if err != nil {
		modified = time.Time{}
	}
	http.ServeContent(w, r, "", modified, bytes.NewReader(k.body))
}

// CopyAnswer adds the headers of a backend's answer that go to viewers: all but
// those of its connection, and its cookies, since the answer may go to several
// viewers and a session is one's own.
func CopyAnswer(dst, answer http.Header) {
	for name, values := range answer {
		switch name {
		case "Set-Cookie", "Content-Length", "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Trailer":
		case "Vary":
			dst[name] = append(dst[name], values...)
		default:
			dst[name] = append([]string(nil), values...)
		}
	}
}
