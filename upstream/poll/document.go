package poll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/charset"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// document is the body of a poll's response, as viewers receive it.
type document struct {
	name   string         // name of its event, empty for none
	json   *diff.Document // nil if it is no JSON
	text   []byte
	isJSON bool   // the documents that follow it have to be JSON, too
	media  string // the response's media type; empty if it had none

	meaning *meaning // what of it is compared; nil: all

	finished bool   // its viewers receive complete
	end      []byte // the data of complete that until has; nil for {}

	// Of `send jq`.
	byProgram  bool   // the program has finished it, and not until
	programEnd []byte // the data of complete that the program has

	// Of a shaped view, until they are published: the events that follow the
	// document before, and those for viewers without one.
	next, first []event.Frame
}

// equal reports whether two documents are the same, apart from text that the rule
// ignores. White space and the order of members don't matter in JSON.
func (d *document) equal(other *document) bool {
	if d.meaning != nil && other.meaning != nil {
		return *d.meaning == *other.meaning
	}
	if d.json != nil && other.json != nil {
		return d.json.Equal(other.json)
	}
	return bytes.Equal(d.text, other.text)
}

// in returns the document in the bytes of an event, and true, if that has it whole.
func (d *document) in(f event.Frame) (*document, bool) {
	data, ok := f.DataOf(d.name)
	if !ok || !bytes.Equal(data, d.text) {
		return d, false
	}
	same := *d
	same.text = data
	if d.json != nil {
		same.json = d.json.In(data)
	}
	return &same, true
}

func (d *document) event() event.Event { return event.Event{Name: d.name, Data: d.text} }

// completion returns the data of complete.
func (d *document) completion() []byte {
	switch {
	case d.end != nil:
		return d.end
	case d.programEnd != nil:
		return d.programEnd
	default:
		return []byte("{}")
	}
}

// read makes a document of a response: it applies select and until.
func (c *Config) read(ctx context.Context, resp *subrequest.Response, want expectation) (d *document, err error) {
	t, body := mediaTypeOf(resp.Header), resp.Body
	switch {
	case !want.admitsType(t, body):
		err = want.unexpected(t)
	case c.elements != nil:
		d, err = c.readMarkup(ctx, t, resp.Header.Get("Content-Type"), body)
	case !t.isJSON() && !want.json && c.selection == nil && c.until == nil && !c.isShaped():
		d, err = newDocument(t, body)
	default:
		text := decodeJSON(body, t.charset)
		if d, err = c.readJSON(ctx, text.text); errors.Is(err, diff.ErrNotJSON) {
			err = text.invalid(t, err)
		}
	}
	if err != nil {
		return nil, err
	}
	d.media = t.name
	c.setMeaning(d)
	if d.json != nil {
		d.name = c.eventName.expand(d.text)
	} else {
		d.name = c.eventName.expand(nil)
	}
	return d, nil
}

func (c *Config) readJSON(ctx context.Context, text []byte) (*document, error) {
	d := &document{isJSON: true}
	var err error
	if c.until != nil {
		if d.finished, d.end, err = c.runUntil(ctx, text); err != nil {
			return nil, err
		}
	}
	if c.selection != nil {
		if text, err = c.runSelect(ctx, text); err != nil {
			return nil, err
		}
	}
	if d.json, err = diff.Parse(text); err != nil {
		return nil, err
	}
	d.text = d.json.Bytes()
	return d, nil
}

// runUntil reports whether the last output of until is neither false nor null, and
// returns it if it is an object.
func (c *Config) runUntil(ctx context.Context, body []byte) (finished bool, end []byte, err error) {
	out, err := c.until.Run(ctx, body)
	if err != nil {
		return false, nil, programError(fmt.Errorf("until: %w", err))
	}
	if len(out) == 0 {
		return false, nil, nil
	}
	switch last := out[len(out)-1]; {
	case last[0] == '{':
		return true, last, nil
	default:
		return string(last) != "false" && string(last) != "null", nil, nil
	}
}

// runSelect returns the one output of select.
func (c *Config) runSelect(ctx context.Context, body []byte) ([]byte, error) {
	out, err := c.selection.Run(ctx, body)
	switch {
	case err != nil:
		return nil, programError(fmt.Errorf("select: %w", err))
	case len(out) != 1:
		return nil, programError(fmt.Errorf("select returned %d values instead of one: wrap the program in [ ]", len(out)))
	}
	return out[0], nil
}

// newDocument makes a document of a type that need not be JSON: it makes JSON
// compact, leaves other text as it is, and wraps binary data in an envelope.
func newDocument(t mediaType, body []byte) (*document, error) {
	text := bytes.TrimPrefix(body, []byte(charset.MarkUTF8))
	parsed, err := diff.Parse(text)
	switch {
	case err == nil:
		return &document{json: parsed, text: parsed.Bytes(), isJSON: isContainer(parsed.Bytes()) && !t.isJSONLines()}, nil
	case !errors.Is(err, diff.ErrNotJSON):
		return nil, err
	case utf8.Valid(body):
		return &document{text: body}, nil
	}
	return &document{text: event.Binary(t.name, body)}, nil
}

func programError(err error) error { return &documentError{failedProgram, -1, err} }

// isContainer reports whether a JSON text is an object or an array. A text that
// is a number may be followed by any other text.
func isContainer(text []byte) bool { return text[0] == '{' || text[0] == '[' }
