package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/jq"
)

const byteOrderMark = "\ufeff"

// content is a decoded body, or one part of it, with its media type. It parses
// the body at most once in each way, and only if it has to. It never changes.
type content struct {
	body  []byte
	media mediaType

	// isJSON reports whether body is one JSON document. encoding/json limits
	// its nesting. GJSON has no such limit: it would exhaust the stack on a body
	// of brackets.
	isJSON func() bool
	json   func() ([]byte, error) // one document: the body, or a list of its lines
	form   func() (url.Values, error)
	tree   func() ([]byte, error) // the form as a JSON object
}

// newContent drops a byte order mark before text. JSON.parse, encoding/json and
// gjson take it for a mistake (RFC 8259 §8.1). A body with a type of plain text that
// isn't JSON keeps it: nobody parses that.
func newContent(body []byte, media mediaType) *content {
	text, marked := bytes.CutPrefix(body, []byte(byteOrderMark))
	if marked && utf8.Valid(text) && (media.name != "text/plain" || json.Valid(text)) {
		body = text
	}
	c := &content{body: body, media: media}
	c.isJSON = sync.OnceValue(func() bool { return json.Valid(c.body) })
	c.json = sync.OnceValues(c.parseJSON)
	c.form = sync.OnceValues(func() (url.Values, error) { return url.ParseQuery(string(c.body)) })
	c.tree = sync.OnceValues(func() ([]byte, error) { return formToJSON(string(c.body)) })
	return c
}

// parseJSON ignores the media type, unless that means JSON lines.
func (c *content) parseJSON() ([]byte, error) {
	if c.media.isJSONLines() {
		return linesToJSON(c.body)
	}
	if !c.isJSON() {
		return nil, errors.New(c.notJSON())
	}
	return c.body, nil
}

// checkJSON refuses a body that isn't the JSON that its media type promises: a
// page's JSON.parse would fail on it. A request without a body has no JSON to
// break.
func (c *content) checkJSON() *refusal.Error {
	if len(c.body) == 0 || !c.media.isJSON() && !c.media.isJSONLines() {
		return nil
	}
	_, err := c.json()
	switch {
	case err == nil:
		return nil
	case !utf8.Valid(c.body):
		return notUTF8()
	}
	var syntax *json.SyntaxError
	var document json.RawMessage
	if c.media.isJSON() && errors.As(json.Unmarshal(c.body, &document), &syntax) {
		return refusal.Newf(http.StatusBadRequest, "the body isn't JSON: see its byte %d", syntax.Offset)
	}
	return refusal.Newf(http.StatusBadRequest, "%s", err)
}

// notJSON has a hint for what GitHub, for one, sends by default.
func (c *content) notJSON() string {
	if strings.HasPrefix(c.media.header, formType) {
		return "the body is a form and not JSON (have the sender use the content type application/json)"
	}
	return "the body isn't JSON"
}

// document returns the input of jq programs: the body's JSON, or a form as an
// object.
func (c *content) document() ([]byte, error) {
	document, err := c.json()
	if err != nil && c.media.isForm() {
		return c.tree()
	}
	return document, err
}

// isObject reports whether the body begins like a JSON object.
func (c *content) isObject() bool {
	return bytes.HasPrefix(bytes.TrimLeft(c.body, " \t\r\n"), []byte("{"))
}

// data returns the body as an event's data. Binary content gets an envelope.
func (c *content) data() ([]byte, *refusal.Error) {
	switch {
	case utf8.Valid(c.body):
		return c.body, nil
	case c.media.isText():
		return nil, notUTF8()
	}
	return event.Binary(c.media.header, c.body), nil
}

func notUTF8() *refusal.Error {
	return refusal.Newf(http.StatusBadRequest, "the text is not UTF-8")
}

// linesToJSON makes a JSON array of a body with a document on each line. Its
// errors are for the sender.
func linesToJSON(body []byte) ([]byte, error) {
	array := make([]byte, 0, len(body)+2)
	array = append(array, '[')
	count := 0
	for number := 1; len(body) > 0; number++ {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if !json.Valid(line) {
			return nil, fmt.Errorf("line %d of the body isn't JSON", number)
		}
		if count++; count > jq.MaxOutputs {
			return nil, fmt.Errorf("the body has more than %d lines", jq.MaxOutputs)
		}
		if count > 1 {
			array = append(array, ',')
		}
		array = append(array, line...)
	}
	return append(array, ']'), nil
}
