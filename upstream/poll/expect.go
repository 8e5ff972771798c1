package poll

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// expectation is what a view's documents have to be: a login page or an error
// page with status 200 is none of them. The zero value admits everything.
type expectation struct {
	json   bool   // one JSON text, of any media type
	media  string // the media type, such as text/html, or a range, such as image/*
	option string // the rule's; empty if the view's last document says it
}

const (
	html  = "text/html"
	xhtml = "application/xhtml+xml"
)

// newExpectation parses the option expect.
func newExpectation(option string) (expectation, error) {
	e := expectation{option: option}
	kind, subtype, isType := strings.Cut(strings.ToLower(option), "/")
	switch {
	case option == "":
	case option == "json":
		e.json = true
	case option == "html":
		e.media = html
	case isType && httpguts.ValidHeaderFieldName(kind) && httpguts.ValidHeaderFieldName(subtype) && (kind != "*" || subtype == "*"):
		e.media = kind + "/" + subtype
	default:
		return e, fmt.Errorf("expect %q is no media type: write json, html, or a type without parameters such as text/csv, image/* or */*", option)
	}
	return e, nil
}

// mayBeJSON reports whether the expectation admits JSON.
func (e expectation) mayBeJSON() bool {
	return e.json || e.media == "" || strings.Contains(e.media, "*") || mediaType{name: e.media}.isJSON()
}

// expectedLike returns the expectation of the documents that follow one.
func expectedLike(d *document) expectation {
	switch {
	case d == nil:
		return expectation{}
	case d.isJSON:
		return expectation{json: true}
	default:
		return expectation{media: d.media}
	}
}

// admitsType reports whether a response of a type may be a document. Whether it
// is JSON remains to be seen.
func (e expectation) admitsType(t mediaType, body []byte) bool {
	name := t.name
	switch {
	case e.media == "" || e.media == "*/*":
		return true
	case name == "" && e.option == "":
		return true
	case name == "":
		name = mediaTypeOf(http.Header{"Content-Type": {http.DetectContentType(body)}}).name
	}
	if isHTML(e.media) {
		return isHTML(name)
	}
	kind, all := strings.CutSuffix(e.media, "*")
	return name == e.media || all && strings.HasPrefix(name, kind)
}

func isHTML(name string) bool { return name == html || name == xhtml }

// unexpected returns the error for a response whose type is not admitted.
func (e expectation) unexpected(t mediaType) error {
	err := fmt.Errorf("the response %s, but the rule says expect %s", t.says(), e.option)
	if e.option == "" {
		err = fmt.Errorf("the response %s, but the last document was %s: if both are right, write expect */*", t.says(), e.media)
	}
	return &documentError{unexpectedType, -1, err}
}

// acceptedAfter is how many polls in a row find a document of another type until
// it is the view's. A page of an error, or of a restart, may have been the first
// document. A view of JSON stays one.
const acceptedAfter = 3

// anotherType counts the polls in a row that found a type that isn't the view's.
type anotherType struct {
	name  string
	polls int
}

// expectation returns what a response has to be for the view.
func (l *pollLoop) expectation(resp *subrequest.Response) expectation {
	e, t := l.view.expectation(), mediaTypeOf(resp.Header)
	if e.option != "" || e.admitsType(t, resp.Body) {
		return e
	}
	if l.view.state.stale == nil || l.another.name != t.name {
		l.another = anotherType{name: t.name}
	}
	if l.another.polls++; l.another.polls >= acceptedAfter {
		return expectation{}
	}
	return e
}

// expectation returns what the view's documents have to be: what the rule says,
// otherwise what the last one was.
func (v *view) expectation() expectation {
	if e := v.poller.config.expected; e.option != "" {
		return e
	}
	v.state.mu.Lock()
	defer v.state.mu.Unlock()
	return expectedLike(v.state.doc)
}

// isUnlike reports whether a successful response isn't the document, by its type:
// in a view that several principals share, it refuses the principal. Many a login
// page has status 200. A broken document with the right type is none of these.
func (v *view) isUnlike(resp *subrequest.Response) bool {
	if resp == nil || !isDocument(resp.Status) {
		return false
	}
	e, t := v.expectation(), mediaTypeOf(resp.Header)
	if !e.json {
		return !e.admitsType(t, resp.Body)
	}
	return !t.isJSON() && !json.Valid(decodeJSON(resp.Body, t.charset).text)
}

// isTemporaryRedirect reports whether a response leads elsewhere for now, as one
// to a login page does. With 301 and 308, the document has moved.
func isTemporaryRedirect(status int) bool {
	return status == http.StatusFound || status == http.StatusSeeOther || status == http.StatusTemporaryRedirect
}

// recordRedirect records that the view's URL has begun to answer with a redirect.
func (v *view) recordRedirect() {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	if known := v.poller.resources[v.target.shared]; known != nil {
		known.redirects = true
	}
}

// refusalInstead returns the refusal with which a client is answered in place of
// a response that isn't the view's document, or nil: an EventSource would follow
// a redirect to a login page, and perhaps take it for the document.
func (v *view) refusalInstead(resp *subrequest.Response) error {
	v.poller.mu.Lock()
	known := v.poller.resources[v.target.shared]
	redirects := known != nil && known.redirects
	v.poller.mu.Unlock()
	switch {
	case redirects && isTemporaryRedirect(resp.Status):
		return &refusal.Error{Status: http.StatusForbidden, Kind: refusal.NoDocument, Reason: "the backend redirects this document by now, perhaps to a login page: load the page again"}
	case isDocument(resp.Status):
		return &refusal.Error{Status: http.StatusForbidden, Kind: refusal.NoDocument, Reason: "the backend answers with another page than the document, perhaps a login page: load the page again"}
	default:
		return nil
	}
}
