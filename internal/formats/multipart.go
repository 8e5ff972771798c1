package formats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
)

// multipart decodes the parts of multipart/x-mixed-replace (RFC 2046 §5.1). A part
// is an event when its Content-Length, or else the following boundary, has come.
type multipart struct {
	max       int
	delimiter []byte // two hyphens and the boundary
	buf       []byte
	searched  int // the part of buf in which no delimiter begins
	state     partState

	contentType string
	length      int // of the part; -1 if it is not declared
}

type partState int

const (
	beforePart partState = iota // the preamble, or the end of a part whose length was declared
	inHeader
	inBody
	afterParts
)

// maxPartHeader limits the header of a part.
const maxPartHeader = 8 << 10

func newMultipart(boundary string, maxEvent int) *multipart {
	return &multipart{max: maxEvent, delimiter: []byte("--" + boundary)}
}

// Decode implements [Decoder].
func (d *multipart) Decode(dst []event.Event, p []byte) ([]event.Event, error) {
	if d.state == afterParts {
		return dst, nil
	}
	if len(d.buf) > d.max+maxPartHeader { // the preamble has been dropped
		return dst, ErrTooLarge
	}
	d.buf = append(d.buf, p...)
	for {
		more, err := d.step(&dst)
		if err != nil || !more {
			return dst, err
		}
	}
}

// step reads a delimiter, a header or a body, if all of it has come.
func (d *multipart) step(dst *[]event.Event) (more bool, err error) {
	switch d.state {
	case beforePart:
		_, found := d.cutDelimiter()
		return found, nil
	case inHeader:
		return d.readHeader()
	case inBody:
		if d.length > d.max {
			return false, ErrTooLarge
		}
		if d.length >= 0 {
			if len(d.buf) < d.length {
				return false, nil
			}
			d.emit(dst, d.buf[:d.length])
			d.consume(d.length)
			d.state = beforePart
			return true, nil
		}
		body, found := d.cutDelimiter()
		switch {
		case len(body) > d.max, !found && len(d.buf) > d.max+len(d.delimiter)+4:
			return false, ErrTooLarge
		case !found:
			return false, nil
		}
		d.emit(dst, body)
		return true, nil
	default:
		return false, nil
	}
}

// cutDelimiter consumes the bytes up to the end of the next line with a delimiter.
// It returns a copy of those before that line. If there is none yet, it drops what
// is not needed before the first part.
func (d *multipart) cutDelimiter() (before []byte, found bool) {
	for from := d.searched; ; {
		i := bytes.Index(d.buf[from:], d.delimiter)
		if i < 0 {
			d.searched = max(len(d.buf)-len(d.delimiter), d.searched)
			d.dropPreamble()
			return nil, false
		}
		start := from + i
		if start > 0 && d.buf[start-1] != '\n' && d.state == inBody {
			from = start + 1
			continue
		}
		rest := d.buf[start+len(d.delimiter):]
		end, last := delimiterEnd(rest)
		switch {
		case end < 0:
			d.searched = start
			d.dropPreamble()
			return nil, false
		case end == 0:
			from = start + 1
			continue
		}
		before = bytes.Clone(trimLineEnd(d.buf[:start]))
		if d.state = inHeader; last {
			d.state = afterParts
		}
		d.consume(start + len(d.delimiter) + end)
		return before, true
	}
}

// delimiterEnd returns how many bytes after a boundary belong to the delimiter, and
// whether it is the last one. It returns 0 if other bytes stand in its line, so that
// it is no delimiter, and -1 if its line has not ended.
func delimiterEnd(rest []byte) (n int, last bool) {
	if bytes.HasPrefix(rest, []byte("--")) {
		return 2, true
	}
	end := bytes.IndexByte(rest, '\n')
	line := rest
	if end >= 0 {
		line = rest[:end]
	}
	line = bytes.TrimRight(line, " \t\r")
	switch {
	case end < 0 && (len(line) == 0 || len(rest) == 1 && rest[0] == '-'):
		return -1, false
	case len(line) > 0:
		return 0, false
	default:
		return end + 1, false
	}
}

// dropPreamble drops what has been searched before the first part.
func (d *multipart) dropPreamble() {
	if d.state == beforePart && d.searched > 0 {
		d.consume(d.searched)
	}
}

// trimLineEnd drops the line end that belongs to a delimiter.
func trimLineEnd(p []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(p, []byte("\n")), []byte("\r"))
}

func (d *multipart) consume(n int) {
	d.buf, d.searched = append(reuse(nil), d.buf[n:]...), 0
}

func (d *multipart) readHeader() (more bool, err error) {
	end, skip := headerEnd(d.buf)
	if end < 0 {
		if len(d.buf) > maxPartHeader {
			return false, fmt.Errorf("%w: the header of a part is longer than %d bytes", ErrSyntax, maxPartHeader)
		}
		return false, nil
	}
	d.contentType, d.length, d.state = "", -1, inBody
	for line := range strings.SplitSeq(string(d.buf[:end]), "\n") {
		name, value, _ := strings.Cut(line, ":")
		switch textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)) {
		case "Content-Type":
			d.contentType = strings.TrimSpace(value)
		case "Content-Length":
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n >= 0 {
				d.length = n
			}
		}
	}
	d.consume(end + skip)
	return true, nil
}

// headerEnd returns where the header ends, and the length of the blank line. It
// returns -1 if that has not come.
func headerEnd(p []byte) (end, skip int) {
	for start := 0; ; {
		i := bytes.IndexByte(p[start:], '\n')
		if i < 0 {
			return -1, 0
		}
		if len(bytes.TrimSuffix(p[start:start+i], []byte("\r"))) == 0 {
			return start, i + 1
		}
		start += i + 1
	}
}

// emit appends a part as an event, unless it is blank.
func (d *multipart) emit(dst *[]event.Event, body []byte) {
	if len(bytes.Trim(body, whitespace)) > 0 {
		*dst = append(*dst, event.Event{Data: partData(d.contentType, body)})
	}
}

// partData returns JSON without white space, text as it is, and other bytes in an
// envelope.
func partData(contentType string, body []byte) []byte {
	t, _, _ := mime.ParseMediaType(contentType)
	if t == "" || t == "application/json" || strings.HasSuffix(t, "+json") {
		if data, err := compact(body); err == nil {
			return data
		}
	}
	if t == "" || strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "json") {
		return validUTF8(body)
	}
	return event.Binary(t, body)
}

// End implements [Decoder]. A last part without a boundary counts if it is JSON.
func (d *multipart) End(dst []event.Event) ([]event.Event, error) {
	switch rest := bytes.Trim(d.buf, whitespace); {
	case d.state == inBody && d.length < 0 && json.Valid(rest):
		d.emit(&dst, rest)
		return dst, nil
	case d.state == inHeader && len(rest) > 0, d.state == inBody:
		return dst, ErrUnfinished
	}
	return dst, nil
}

var _ Decoder = (*multipart)(nil)
