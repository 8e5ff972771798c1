package event

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// ErrTooLarge is returned by a [Decoder] for an event, or a line, that is
// longer than its bound.
var ErrTooLarge = errors.New("event is larger than the decoder's bound")

// DefaultMaxEvent is a [Decoder]'s bound unless it is given another: 16 MiB.
const DefaultMaxEvent = 16 << 20

// Decoder reads events from a stream, by the standard's rules for
// interpreting one (section 9.2.6). What is not UTF-8 comes out as U+FFFD, as
// the standard has it; a run of such bytes as one. It is not safe for
// concurrent use.
type Decoder struct {
	r        *bufio.Reader
	max      int
	line     []byte
	skipLF   bool // the line before ended in CR: an LF now belongs to it
	pastBOM  bool
	id       string // the last event ID buffer
	retry    time.Duration
	comments int
}

// NewDecoder reads events from r. No event may be larger than maxEvent bytes;
// zero means [DefaultMaxEvent].
func NewDecoder(r io.Reader, maxEvent int) *Decoder {
	if maxEvent <= 0 {
		maxEvent = DefaultMaxEvent
	}
	return &Decoder{r: bufio.NewReader(r), max: maxEvent}
}

// Retry is the reconnection time that the stream last asked for; zero if it
// has asked for none.
func (d *Decoder) Retry() time.Duration { return d.retry }

// Comments counts the comment lines read so far.
func (d *Decoder) Comments() int { return d.comments }

// Next returns the next event that has data. Its ID is the last one that the
// stream has set, in this event or before. An event that is cut short by the
// end of the stream is dropped, as the standard says. At the end it returns
// io.EOF, or the reader's error.
func (d *Decoder) Next() (Event, error) {
	var name string
	var data []byte
	var hasData bool
	for {
		line, err := d.readLine()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			if hasData {
				return Event{ID: d.id, Name: name, Data: data}, nil
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
				return Event{}, ErrTooLarge
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

// splitField cuts a line at its first colon and drops one space after it. A
// comment has an empty field name.
func splitField(line []byte) (field, value []byte) {
	field, value, _ = bytes.Cut(line, []byte(":"))
	return field, bytes.TrimPrefix(value, []byte(" "))
}

// setRetry takes ASCII digits only: a sign, say, makes the field ignored.
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
// slice is valid until the next call. A line that the stream ends in is dropped.
//
// A CR ends its line at once: to wait for the byte after it, in case it is an
// LF, would hold the event back until the next one comes.
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

// discard drops n buffered bytes, which can't fail.
func (d *Decoder) discard(n int) { _, _ = d.r.Discard(n) }

func (d *Decoder) checkLine() error {
	if len(d.line) > d.max {
		return ErrTooLarge
	}
	return nil
}

// text is the line as UTF-8, without the byte order mark that a stream may
// start with.
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
