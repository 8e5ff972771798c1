package formats

import (
	"bytes"

	"github.com/caddy-sse/caddy-sse/event"
)

// lines decodes lines that end in LF or CRLF. It skips the blank ones among lines
// of JSON, with which some servers keep a connection alive.
type lines struct {
	max     int
	isJSON  bool
	line    []byte // of which the end has not come
	started bool   // the first line has ended
}

// Decode implements [Decoder].
func (d *lines) Decode(dst []event.Event, p []byte) ([]event.Event, error) {
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p)
		}
		if len(d.line)+end > d.max {
			return dst, ErrTooLarge
		}
		d.line = append(d.line, p[:end]...)
		if end == len(p) {
			return dst, nil
		}
		dst = d.readLine(dst, true)
		p = p[end+1:]
	}
}

// End implements [Decoder]. The last line need not end.
func (d *lines) End(dst []event.Event) ([]event.Event, error) { return d.readLine(dst, false), nil }

func (d *lines) readLine(dst []event.Event, ended bool) []event.Event {
	line := bytes.TrimSuffix(d.line, []byte("\r"))
	if !d.started {
		d.started = true
		line = bytes.TrimPrefix(line, bom)
	}
	isBlank := !ended && len(line) == 0
	if d.isJSON {
		line = bytes.Trim(line, whitespace)
		isBlank = len(line) == 0
	}
	if !isBlank {
		dst = append(dst, event.Event{Data: validUTF8(line)})
	}
	d.line = reuse(d.line)
	return dst
}

var _ Decoder = (*lines)(nil)
