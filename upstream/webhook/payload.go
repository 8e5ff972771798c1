package webhook

import (
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

// payload is a verified request as templates see it.
type payload struct {
	request *http.Request
	repl    *caddy.Replacer
	body    []byte
	isJSON  func() bool
	form    func() (url.Values, error)
}

func newPayload(r *http.Request, repl *caddy.Replacer, body []byte) *payload {
	return &payload{
		request: r,
		repl:    repl,
		body:    body,
		// encoding/json has a bound on nesting. GJSON has none, and would
		// exhaust the stack on a body of brackets.
		isJSON: sync.OnceValue(func() bool { return json.Valid(body) }),
		form:   sync.OnceValues(func() (url.Values, error) { return url.ParseQuery(string(body)) }),
	}
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
// boolean's literal. Of two members with one name the first counts.
func (p *payload) jsonValue(path string) (string, *lookupError) {
	if !p.isJSON() {
		return "", &lookupError{status: http.StatusBadRequest, what: p.notJSON()}
	}
	field := gjson.GetBytes(p.body, path)
	text := field.Raw // a number keeps all its digits
	switch {
	case field.IsObject():
		return "", notText(path, "an object")
	case field.IsArray():
		return "", notText(path, "a list")
	case field.Type == gjson.Null:
		text = ""
	case field.Type == gjson.String, text == "": // a count has no literal
		text = field.String()
	}
	if text == "" {
		return "", missing("the payload has no %q", path)
	}
	return text, nil
}

func notText(path, kind string) *lookupError {
	return &lookupError{
		status: http.StatusUnprocessableEntity,
		what:   fmt.Sprintf("%q in the payload is %s and not text", path, kind),
	}
}

// notJSON has a hint for what GitHub, for one, sends unless it is told not to.
func (p *payload) notJSON() string {
	if strings.HasPrefix(p.request.Header.Get("Content-Type"), formType) {
		return "the body is a form and not JSON (have the sender use the content type application/json)"
	}
	return "the body isn't JSON"
}

func (p *payload) formValue(name string) (string, *lookupError) {
	form, err := p.form()
	if err != nil {
		return "", &lookupError{status: http.StatusBadRequest, what: "the body isn't a form (" + formType + ")"}
	}
	text := form.Get(name)
	if text == "" {
		return "", missing("the form has no %q", name)
	}
	return text, nil
}
