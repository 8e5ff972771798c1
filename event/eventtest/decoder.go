// Package eventtest decodes streams of server-sent events. Tests use it to check
// what a client of a stream receives.
package eventtest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
)

// ErrTooLarge means that an event, or a line, exceeds the maximum size of a
// [Decoder].
var ErrTooLarge = errors.New("the event is larger than the decoder's maximum")

// DefaultMaxEvent is the default maximum size of an event in bytes: 16 MiB.
const DefaultMaxEvent = 16 << 20

// Decoder reads events from a stream, as section 9.2.6 of the HTML standard
// describes. It replaces each run of bytes that are not UTF-8 with one U+FFFD. It
// is not safe for concurrent use.
type Decoder struct {
	r        *bufio.Reader
	max      int
	line     []byte
	skipLF   bool // the previous line ended in CR: a leading LF belongs to it
	pastBOM  bool
	id       string // the last event ID buffer
	lastID   string // from which a client would resume
	retry    time.Duration
	comments int
}

// NewDecoder returns a decoder that reads from r. No event may be larger than
// maxEvent bytes; zero means [DefaultMaxEvent].
func NewDecoder(r io.Reader, maxEvent int) *Decoder {
	if maxEvent <= 0 {
		maxEvent = DefaultMaxEvent
	}
	return &Decoder{r: bufio.NewReader(r), max: maxEvent}
}

// Retry returns the newest reconnection time that the stream has set; zero if it
// has set none.
func (d *Decoder) Retry() time.Duration { return d.retry }

// LastEventID returns the id from which a client resumes: that of the last event,
// or of a later block of lines that has an id and no data.
func (d *Decoder) LastEventID() string { return d.lastID }

// Comments returns how many comment lines the decoder has read.
func (d *Decoder) Comments() int { return d.comments }

// Next returns the next event that has data. Its ID is the last one that the
// stream has set, in this event or before. Next drops an event that the end of
// the stream truncates, as the standard requires. It fails with io.EOF at the end
// of the stream, with [ErrTooLarge], or with the reader's error.
func (d *Decoder) Next() (event.Event, error) {
	var name string
	var data []byte
	var hasData bool
	for {
		line, err := d.readLine()
		if err != nil {
			return event.Event{}, err
		}
		if len(line) == 0 {
			d.lastID = d.id
			if hasData {
				return event.Event{ID: d.id, Name: name, Data: data}, nil
			}
			name = ""
			continue
		}
		field, value := splitField(line)
		switch string(field) {
		case "":
			d.comments++
		case "data":
			if hasData {
				data = append(data, '\n')
			}
			data, hasData = append(data, value...), true
			if len(data) > d.max {
				return event.Event{}, ErrTooLarge
			}
		case "event":
			name = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				d.id = string(value)
			}
		case "retry":
			d.setRetry(value)
		}
	}
}

// splitField splits a line at its first colon and drops one space after it. A
// comment has an empty field name.
func splitField(line []byte) (field, value []byte) {
	field, value, _ = bytes.Cut(line, []byte(":"))
	return field, bytes.TrimPrefix(value, []byte(" "))
}

// setRetry ignores a value with anything but ASCII digits, such as a sign.
func (d *Decoder) setRetry(value []byte) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return
		}
	}
	if ms, err := strconv.ParseInt(string(value), 10, 32); err == nil {
		d.retry = time.Duration(ms) * time.Millisecond
	}
}

// readLine returns the next line without its end, which is LF, CR or CRLF. The
// slice is valid until the next call. readLine drops a last line without an end.
//
// A CR ends its line at once. Waiting for a following LF would delay the event
// until the next one arrives.
func (d *Decoder) readLine() ([]byte, error) {
	d.line = d.line[:0]
	for {
		if _, err := d.r.Peek(1); err != nil {
			return nil, err
		}
		buf, _ := d.r.Peek(d.r.Buffered())
		if d.skipLF {
			d.skipLF = false
			if buf[0] == '\n' {
				d.discard(1)
				continue
			}
		}
		end := bytes.IndexAny(buf, "\r\n")
		if end >= 0 {
			d.line = append(d.line, buf[:end]...)
			d.skipLF = buf[end] == '\r'
			d.discard(end + 1)
			return d.text(), d.checkLine()
		}
		d.line = append(d.line, buf...)
		d.discard(len(buf))
		if err := d.checkLine(); err != nil {
			return nil, err
		}
	}
}

// discard drops n buffered bytes. It can't fail.
func (d *Decoder) discard(n int) { _, _ = d.r.Discard(n) }

func (d *Decoder) checkLine() error {
	if len(d.line) > d.max {
		return ErrTooLarge
	}
	return nil
}

// text returns the line as UTF-8, without the byte order mark that a stream may
// begin with.
func (d *Decoder) text() []byte {
	line := d.line
	if !d.pastBOM {
		d.pastBOM = true
		line = bytes.TrimPrefix(line, []byte("\uFEFF"))
	}
	if utf8.Valid(line) {
		return line
	}
	return bytes.ToValidUTF8(line, []byte("\uFFFD"))
}
