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

// RefreshTarget names the documents to poll.
type RefreshTarget struct {
	// Host is the host of the URL, with its port if it has one. It is empty for
	// the host of the received request.
	Host string
	// Path is the decoded path of the URL.
	Path string
}

// refreshTemplate is the template of a RefreshTarget.
type refreshTemplate struct {
	host string
	path *fieldTemplate
}

func compileRefresh(sources []string) (templates []*refreshTemplate, err error) {
	for _, src := range sources {
		t := new(refreshTemplate)
		path := src
		if _, rest, ok := strings.Cut(src, "://"); ok {
			end := strings.IndexByte(rest, '/')
			if end < 0 {
				end = len(rest)
			}
			t.host, path = rest[:end], rest[end:]
			u, err := url.Parse(src[:len(src)-len(path)])
			if err != nil || u.Host != t.host || t.host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return nil, fmt.Errorf("refresh `%s`: its host must be a name without placeholders: write for example `https://shop.example.com/orders/{json.id}`", src)
			}
		}
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#%") {
			return nil, fmt.Errorf("refresh `%s`: want a decoded path without a query: write for example `/v1/orders/{json.id}`", src)
		}
		if t.path, err = compileTemplate("refresh", path); err != nil {
			return nil, err
		}
		templates = append(templates, t)
	}
	return templates, nil
}

func (m *mapper) refreshTargets(p *part) (targets []RefreshTarget, refused *refusal.Error) {
	for _, t := range m.refresh {
		path, err := t.path.expand(func(name string) (string, *lookupError) {
			text, err := p.value(name)
			if err == nil && !isSegment(text) {
				err = &lookupError{status: http.StatusUnprocessableEntity, reason: fmt.Sprintf("the value of {%s} is not one segment of a path", name)}
			}
			return text, err
		})
		if err != nil {
			return nil, err.refuse(t.path.field)
		}
		if hasDotSegment(path) {
			return nil, unprocessable("the path to refresh has a segment of dots")
		}
		targets = append(targets, RefreshTarget{t.host, path})
	}
	return targets, nil
}

// maxRefreshTargets limits the refresh targets of one request.
const maxRefreshTargets = 1000

// addRefresh adds the part's refresh targets that the delivery doesn't have yet.
func (m *mapper) addRefresh(d *Delivery, p *part) *refusal.Error {
	targets, refused := m.refreshTargets(p)
	for _, target := range targets {
		switch {
		case d.refreshed[target]:
			continue
		case len(d.Refresh) == maxRefreshTargets:
			return unprocessable("it has more than %d views to refresh", maxRefreshTargets)
		case d.refreshed == nil:
			d.refreshed = make(map[RefreshTarget]bool)
		}
		d.refreshed[target] = true
		d.Refresh = append(d.Refresh, target)
	}
	return refused
}

// isSegment reports whether a text fits in one segment of a path (RFC 3986
// §3.3). The path index uses decoded paths, in which an escaped slash is a slash
// like any other: escaping wouldn't help.
func isSegment(text string) bool {
	return len(text) <= 1024 && utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return r == '/' || r == '\\' || unicode.IsControl(r) })
}

// hasDotSegment reports whether a path has a segment "." or ".." (RFC 3986
// §3.3).
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
