package webhook

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// RefreshTarget names documents that are to be polled.
type RefreshTarget struct {
	// Host is the URL's host, with its port if it has one; empty: that of the
	// request that was received.
	Host string
	// Path is the URL's path, decoded.
	Path string
}

// view is a template of one.
type view struct {
	host string
	path *mapped
}

func compileViews(sources []string) (views []*view, err error) {
	for _, src := range sources {
		v := new(view)
		path := src
		if _, rest, ok := strings.Cut(src, "://"); ok {
			end := strings.IndexByte(rest, '/')
			if end < 0 {
				end = len(rest)
			}
			v.host, path = rest[:end], rest[end:]
			u, err := url.Parse(src[:len(src)-len(path)])
			if err != nil || u.Host != v.host || v.host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return nil, fmt.Errorf("refresh `%s`: its host must be a name without placeholders: write for example `https://shop.example.com/orders/{json.id}`", src)
			}
		}
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#%") {
			return nil, fmt.Errorf("refresh `%s`: want a decoded path without a query: write for example `/v1/orders/{json.id}`", src)
		}
		if v.path, err = compileTemplate("refresh", path); err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// views are what is polled for a payload.
func (wh *Webhook) views(p *payload) (views []RefreshTarget, refused *refusal.Error) {
	for _, v := range wh.refresh {
		path, err := v.path.expand(func(name string) (string, *lookupError) {
			text, err := p.value(name)
			if err == nil && !isSegment(text) {
				err = &lookupError{status: http.StatusUnprocessableEntity, what: fmt.Sprintf("what {%s} stands for is not one segment of a path", name)}
			}
			return text, err
		})
		if err != nil {
			return nil, err.refuse(v.path.field)
		}
		if hasDots(path) {
			return nil, unprocessable("the path to refresh has a segment of dots")
		}
		views = append(views, RefreshTarget{v.host, path})
	}
	return views, nil
}

// maxViews is how many views one request may have polled.
const maxViews = 1000

// addViews adds what is to be polled for a payload, and isn't there yet.
func (wh *Webhook) addViews(d *Delivery, p *payload) *refusal.Error {
	views, refused := wh.views(p)
	for _, view := range views {
		switch {
		case d.seen[view]:
			continue
		case len(d.Refresh) == maxViews:
			return unprocessable("it has more than %d views to refresh", maxViews)
		case d.seen == nil:
			d.seen = make(map[RefreshTarget]bool)
		}
		d.seen[view] = true
		d.Refresh = append(d.Refresh, view)
	}
	return refused
}

// isSegment tells whether a text can be no more than one segment of a path
// (RFC 3986 §3.3), or a part of one. Views are known by their decoded paths, in
// which an escaped slash is one like any other: it can't be escaped away.
func isSegment(text string) bool {
	return len(text) <= 1024 && utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return r == '/' || r == '\\' || unicode.IsControl(r) })
}

// hasDots tells whether a path has a segment that means another one.
func hasDots(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
