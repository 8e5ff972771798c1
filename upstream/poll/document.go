package poll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// document is the body of a poll's response, as viewers receive it.
type document struct {
	name string         // name of its event, empty for none
	json *diff.Document // nil if it is no JSON
	text []byte
}

// equal reports whether two documents are the same. White space and the order of
// members don't matter in JSON.
func (d *document) equal(other *document) bool {
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
	same := &document{name: d.name, text: data}
	if d.json != nil {
		same.json = d.json.In(data)
	}
	return same, true
}

func (d *document) event() event.Event { return event.Event{Name: d.name, Data: d.text} }

// read makes a document of a response: it applies select, and reports whether
// until finds the document finished.
func (c *Config) read(ctx context.Context, resp *subrequest.Response) (d *document, finished bool, err error) {
	if c.until != nil {
		if finished, err = c.isFinished(ctx, resp.Body); err != nil {
			return nil, false, err
		}
	}
	body := resp.Body
	if c.selection != nil {
		if body, err = c.runSelect(ctx, body); err != nil {
			return nil, false, err
		}
	}
	if d, err = newDocument(resp.Header.Get("Content-Type"), body); err != nil {
		return nil, false, err
	}
	if d.json != nil {
		d.name = c.eventName.expand(d.text)
	} else {
		d.name = c.eventName.expand(nil)
	}
	return d, finished, nil
}

// isFinished reports whether the last output of until is neither false nor null.
func (c *Config) isFinished(ctx context.Context, body []byte) (bool, error) {
	out, err := c.until.Run(ctx, body)
	if err != nil {
		return false, fmt.Errorf("until: %w", err)
	}
	if len(out) == 0 {
		return false, nil
	}
	last := string(out[len(out)-1])
	return last != "false" && last != "null", nil
}

// runSelect returns the one output of select.
func (c *Config) runSelect(ctx context.Context, body []byte) ([]byte, error) {
	out, err := c.selection.Run(ctx, body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("select: %w", err)
	case len(out) != 1:
		return nil, fmt.Errorf("select returned %d values instead of one: wrap the program in [ ]", len(out))
	}
	return out[0], nil
}

// newDocument makes JSON compact, leaves other text as it is, and wraps binary
// data in an envelope.
func newDocument(contentType string, body []byte) (*document, error) {
	parsed, err := diff.Parse(body)
	switch {
	case err == nil:
		return &document{json: parsed, text: parsed.Bytes()}, nil
	case !errors.Is(err, diff.ErrNotJSON):
		return nil, err
	case utf8.Valid(body):
		return &document{text: body}, nil
	}
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		contentType = t
	}
	return &document{text: event.Binary(contentType, body)}, nil
}
