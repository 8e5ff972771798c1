package formats

import (
	"bytes"
	"fmt"

	"github.com/caddy-sse/caddy-sse/event"
)

// element collects the bytes of one JSON text, and finds its end without a parse.
type element struct {
	max     int
	text    []byte
	depth   int
	quoted  bool // in a string
	escaped bool // after a backslash in a string
}

// add adds the bytes of p that belong to the element. It returns the rest, and
// whether the element has ended: an object, an array or a string with its last
// byte, another one before the byte that can't be part of it. The first byte of
// the element must be no white space.
func (e *element) add(p []byte) (rest []byte, ended bool, err error) {
	n, ended := e.length(p)
	if len(e.text)+n > e.max {
		return nil, false, ErrTooLarge
	}
	e.text = append(e.text, p[:n]...)
	return p[n:], ended, nil
}

func (e *element) length(p []byte) (n int, ended bool) {
	for i, c := range p {
		switch {
		case e.escaped:
			e.escaped = false
		case e.quoted && c == '\\':
			e.escaped = true
		case c == '"':
			if e.quoted = !e.quoted; !e.quoted && e.depth == 0 {
				return i + 1, true
			}
		case e.quoted:
		case c == '{', c == '[':
			e.depth++
		case e.depth == 0 && bytes.IndexByte([]byte(",]}"+whitespace), c) >= 0:
			return i, true
		case c == '}', c == ']':
			if e.depth--; e.depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(p), false
}

// reset drops the text, and what is known of it.
func (e *element) reset() {
	*e = element{max: e.max, text: reuse(e.text)}
}

// event returns the element as an event. It fails with [ErrSyntax].
func (e *element) event() (event.Event, error) {
	data, err := compact(e.text)
	e.reset()
	return event.Event{Data: data}, err
}

// jsonArray decodes the elements of one JSON array.
type jsonArray struct {
	element
	state   arrayState
	opening Opening
	before  int // bytes before the array
}

type arrayState int

const (
	beforeArray arrayState = iota
	afterBracket
	afterComma
	inElement
	afterElement
	afterArray
)

// Decode implements [Decoder].
func (d *jsonArray) Decode(dst []event.Event, p []byte) ([]event.Event, error) {
	if d.state == beforeArray {
		array, known, rest := d.opening.IsArray(p)
		switch d.before += len(p) - len(rest); {
		case d.before > d.max:
			return dst, ErrTooLarge
		case !known:
			return dst, nil
		case !array:
			return dst, fmt.Errorf("%w: it is no JSON array", ErrSyntax)
		}
		p = rest
	}
	for len(p) > 0 {
		if d.state != inElement {
			if p = bytes.TrimLeft(p, whitespace); len(p) == 0 {
				break
			}
			if rest, err := d.readMark(p); err != nil {
				return dst, err
			} else if d.state != inElement {
				p = rest
				continue
			}
		}
		rest, ended, err := d.add(p)
		if err != nil {
			return dst, err
		}
		if p = rest; !ended {
			break
		}
		e, err := d.event()
		if err != nil {
			return dst, err
		}
		dst, d.state = append(dst, e), afterElement
	}
	return dst, nil
}

// readMark reads a bracket or a comma, or finds that an element begins.
func (d *jsonArray) readMark(p []byte) (rest []byte, err error) {
	c := p[0]
	switch {
	case d.state == beforeArray && c == '[':
		d.state = afterBracket
	case d.state == afterElement && c == ',':
		d.state = afterComma
	case (d.state == afterBracket || d.state == afterElement) && c == ']':
		d.state = afterArray
	case (d.state == afterBracket || d.state == afterComma) && c != ',' && c != ']':
		d.state = inElement
		return p, nil
	default:
		return p, fmt.Errorf("%w: %q is out of place in a JSON array", ErrSyntax, c)
	}
	return p[1:], nil
}

// End implements [Decoder].
func (d *jsonArray) End(dst []event.Event) ([]event.Event, error) {
	if d.state != afterArray {
		return dst, ErrUnfinished
	}
	return dst, nil
}

// jsonSeq decodes JSON text sequences (RFC 7464). As §2.4 recommends, it skips
// texts that are truncated or malformed.
type jsonSeq struct {
	element
	state seqState
}

type seqState int

const (
	outsideText seqState = iota
	beforeText
	inText
)

const recordSeparator = '\x1e'

// Decode implements [Decoder]. A text is complete with its last byte; a number,
// true, false and null with the white space that follows.
func (d *jsonSeq) Decode(dst []event.Event, p []byte) ([]event.Event, error) {
	for len(p) > 0 {
		end := bytes.IndexByte(p, recordSeparator)
		if end < 0 {
			return d.decodeText(dst, p)
		}
		var err error
		if dst, err = d.decodeText(dst, p[:end]); err != nil {
			return dst, err
		}
		d.reset()
		d.state, p = beforeText, p[end+1:]
	}
	return dst, nil
}

func (d *jsonSeq) decodeText(dst []event.Event, p []byte) ([]event.Event, error) {
	if d.state == beforeText {
		if p = bytes.TrimLeft(p, whitespace); len(p) > 0 {
			d.state = inText
		}
	}
	if d.state != inText {
		return dst, nil
	}
	_, ended, err := d.add(p)
	if err != nil || !ended {
		return dst, err
	}
	d.state = outsideText
	if e, err := d.event(); err == nil {
		dst = append(dst, e)
	}
	return dst, nil
}

// End implements [Decoder].
func (d *jsonSeq) End(dst []event.Event) ([]event.Event, error) {
	if d.state == inText {
		return dst, ErrUnfinished
	}
	return dst, nil
}

var (
	_ Decoder = (*jsonArray)(nil)
	_ Decoder = (*jsonSeq)(nil)
)
