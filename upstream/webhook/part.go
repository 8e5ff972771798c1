package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/tidwall/gjson"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/jq"
)

// part is the source of one event: a whole request or one element of it.
// Templates and jq programs see it.
type part struct {
	*content
	request *request
	ctx     context.Context // limits the programs of the whole request
	id      string          // of an element without an ID of its own
}

// element returns the part that is one JSON document of p.
func (p *part) element(document []byte) *part {
	return &part{content: newContent(document, jsonType), request: p.request, ctx: p.ctx}
}

// lookupError is the reason why a placeholder has no text.
type lookupError struct {
	status int
	// missing means that the request doesn't have what the placeholder names.
	// Some fields allow that.
	missing bool
	reason  string
}

func (e *lookupError) refuse(field string) *refusal.Error {
	return refusal.Newf(e.status, "%s, which the %s needs", e.reason, field)
}

func missing(format string, args ...any) *lookupError {
	return &lookupError{http.StatusUnprocessableEntity, true, fmt.Sprintf(format, args...)}
}

// value returns the text of a placeholder.
func (p *part) value(name string) (string, *lookupError) {
	if path, ok := strings.CutPrefix(name, jsonPrefix); ok {
		return p.jsonValue(path)
	}
	if field, ok := strings.CutPrefix(name, formPrefix); ok {
		return p.formValue(field)
	}
	value, _ := p.request.repl.Get(name)
	text := caddy.ToString(value)
	if text == "" {
		return "", missingPlaceholder(name)
	}
	return text, nil
}

// missingPlaceholder describes Caddy's placeholders in the sender's words.
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

// jsonValue returns the text of a field: the content of a string, or the literal
// of a number or a boolean. No object has a key twice: see
// [content.checkDuplicateKeys].
func (p *part) jsonValue(path string) (string, *lookupError) {
	document, err := p.json()
	if err != nil {
		return "", &lookupError{status: http.StatusBadRequest, reason: err.Error()}
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

// textAt returns the text of a field of a JSON document. If the field has none,
// it returns what the field is instead.
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
		reason: fmt.Sprintf("%q in the payload is %s and not text", path, kind),
	}
}

// formValue looks a field up by its name as sent, a[b], and then by its path,
// a.b. The last value counts, as it does for jq.
func (p *part) formValue(name string) (string, *lookupError) {
	form, err := p.form()
	if err != nil {
		return "", &lookupError{status: http.StatusBadRequest, reason: errNoForm.Error()}
	}
	if values := form[name]; len(values) > 0 {
		return formText(name, values[len(values)-1])
	}
	tree, err := p.tree()
	if err != nil || !strings.Contains(name, ".") {
		return formText(name, "")
	}
	text, kind := textAt(tree, name)
	if kind != "" {
		return "", notText(name, kind)
	}
	return formText(name, text)
}

func formText(name, text string) (string, *lookupError) {
	if text == "" {
		return "", missing("the form has no %q", name)
	}
	return text, nil
}

// run returns the outputs of a jq program.
func (p *part) run(field string, program *jq.Program) ([][]byte, *refusal.Error) {
	document, err := p.document()
	switch {
	case err != nil:
		return nil, refusal.Newf(http.StatusBadRequest, "%s, which %s needs", err, field)
	case !utf8.Valid(document):
		return nil, notUTF8()
	}
	values, err := program.Run(p.ctx, document)
	if err != nil {
		return nil, p.programFailed(field, err)
	}
	return values, nil
}

func (p *part) programFailed(field string, err error) *refusal.Error {
	var refused *refusal.Error
	switch {
	case errors.Is(err, jq.ErrNotJSON):
		refused = refusal.Newf(http.StatusBadRequest, "%s, which %s needs", p.notJSON(), field)
	case errors.Is(err, errProgramTime):
		refused = unprocessable("%s: %s", field, errProgramTime)
	case errors.Is(err, jq.ErrFailed):
		refused = unprocessable("%s: %s", field, oneLine(err.Error()))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		refused = refusal.Newf(http.StatusRequestTimeout, "the request was canceled")
	default: // a cause that another handler has set on the context
		refused = refusal.Newf(http.StatusServiceUnavailable, "the request was canceled")
	}
	refused.Err = err
	return refused
}

// oneLine shortens an error that may quote the payload to one line.
func oneLine(s string) string {
	const maxBytes = 300
	line := strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	return refusal.Shorten(line, maxBytes)
}
