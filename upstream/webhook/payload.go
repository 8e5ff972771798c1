package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/tidwall/gjson"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// payload is a verified request, or a part of it, as templates see it.
type payload struct {
	ctx         context.Context // bounds the programs of the whole request
	request     *http.Request
	repl        *caddy.Replacer
	body        []byte
	contentType string
	by          *proven // what is known of who sent it; it may be nil
	id          string  // of a part that can't say itself what it is identified by

	json func() ([]byte, error)
	form func() (url.Values, error)
	tree func() ([]byte, error) // the form as JSON
}

func newPayload(r *http.Request, repl *caddy.Replacer, body []byte, contentType string) *payload {
	p := &payload{request: r, repl: repl, body: body, contentType: contentType}
	p.json = sync.OnceValues(p.parseJSON)
	p.form = sync.OnceValues(func() (url.Values, error) { return url.ParseQuery(string(body)) })
	p.tree = sync.OnceValues(func() ([]byte, error) { return formToJSON(string(body)) })
	return p
}

// parseJSON gives the body's JSON, whatever the content type says; only where
// it says that each line is a document it is a list of these.
func (p *payload) parseJSON() ([]byte, error) {
	if isLines(mediaType(p.contentType)) {
		return linesToJSON(p.body)
	}
	// encoding/json has a bound on nesting. GJSON has none, and would exhaust
	// the stack on a body of brackets.
	if !json.Valid(p.body) {
		return nil, fmt.Errorf("%s", p.notJSON())
	}
	return p.body, nil
}

// document is what jq programs run on: the body's JSON, or that of a form.
func (p *payload) document() ([]byte, error) {
	document, err := p.json()
	if err != nil && mediaType(p.contentType) == formType {
		return p.tree()
	}
	return document, err
}

// part is a payload that is one JSON document of another's.
func (p *payload) part(document []byte) *payload {
	part := newPayload(p.request, p.repl, document, "application/json")
	part.by, part.ctx = p.by, p.ctx
	return part
}

// lookupError tells why a placeholder gave no text.
type lookupError struct {
	status int
	// missing: it just isn't there, which some fields don't mind.
	missing bool
	what    string
}

func (e *lookupError) refuse(field string) *refusal.Error {
	return refusal.Newf(e.status, "%s, which the %s needs", e.what, field)
}

func missing(format string, args ...any) *lookupError {
	return &lookupError{http.StatusUnprocessableEntity, true, fmt.Sprintf(format, args...)}
}

// value is what a placeholder comes to.
func (p *payload) value(name string) (string, *lookupError) {
	if path, ok := strings.CutPrefix(name, jsonPrefix); ok {
		return p.jsonValue(path)
	}
	if field, ok := strings.CutPrefix(name, formPrefix); ok {
		return p.formValue(field)
	}
	value, _ := p.repl.Get(name)
	text := caddy.ToString(value)
	if text == "" {
		return "", missingPlaceholder(name)
	}
	return text, nil
}

// missingPlaceholder says in a sender's words what Caddy's placeholder means.
func missingPlaceholder(name string) *lookupError {
	for _, kind := range []struct{ prefix, format string }{
		{"http.request.header.", "the request has no header %s"},
		{"http.request.uri.query.", "the URL's query has no %q"},
		{"http.request.cookie.", "the request has no cookie %q"},
	} {
		if key, ok := strings.CutPrefix(name, kind.prefix); ok {
			return missing(kind.format, key)
		}
	}
	return missing("{%s} is empty", name)
}

// jsonValue is the text of a field: a string's content, a number's and a
// boolean's literal. No object has two members of one name: see [checkNames].
func (p *payload) jsonValue(path string) (string, *lookupError) {
	document, err := p.json()
	if err != nil {
		return "", &lookupError{status: http.StatusBadRequest, what: err.Error()}
	}
	text, kind := textAt(document, path)
	switch {
	case kind != "":
		return "", notText(path, kind)
	case text == "":
		return "", missing("the payload has no %q", path)
	}
	return text, nil
}

// textAt is the text of a JSON document's field, or what the field is in its
// place.
func textAt(document []byte, path string) (text, kind string) {
	field := gjson.GetBytes(document, path)
	text = field.Raw // a number keeps all its digits
	switch {
	case field.IsObject():
		return "", "an object"
	case field.IsArray():
		return "", "a list"
	case field.Type == gjson.Null:
		text = ""
	case field.Type == gjson.String, text == "": // a count has no literal
		text = field.String()
	}
	return text, ""
}

func notText(path, kind string) *lookupError {
	return &lookupError{
		status: http.StatusUnprocessableEntity,
		what:   fmt.Sprintf("%q in the payload is %s and not text", path, kind),
	}
}

// notJSON has a hint for what GitHub, for one, sends unless it is told not to.
func (p *payload) notJSON() string {
	if strings.HasPrefix(p.contentType, formType) {
		return "the body is a form and not JSON (have the sender use the content type application/json)"
	}
	return "the body isn't JSON"
}

// formValue is a field by its name as it was sent, a[b], or else by its path, a.b.
// Of one that comes more than once the last counts, as for jq.
func (p *payload) formValue(name string) (string, *lookupError) {
	form, err := p.form()
	if err != nil {
		return "", &lookupError{status: http.StatusBadRequest, what: errNoForm.Error()}
	}
	if values := form[name]; len(values) > 0 {
		return p.formText(name, values[len(values)-1])
	}
	tree, err := p.tree()
	if err != nil || !strings.Contains(name, ".") {
		return p.formText(name, "")
	}
	text, kind := textAt(tree, name)
	if kind != "" {
		return "", notText(name, kind)
	}
	return p.formText(name, text)
}

func (p *payload) formText(name, text string) (string, *lookupError) {
	if text == "" {
		return "", missing("the form has no %q", name)
	}
	return text, nil
}
