package formats

import (
	"bytes"
	"strconv"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
)

// EventStream decodes an event stream, as section 9.2.6 of the HTML standard
// describes.
type EventStream struct {
	// OwnIDs says that an event has no ID if its block sets none. By default it has the
	// last one that the stream has set.
	OwnIDs bool

	max     int
	line    []byte // of which the end has not come
	started bool   // the first line has ended
	skipLF  bool   // the last line ended in CR: a leading LF belongs to it

	name     string
	data     []byte
	hasData  bool
	idBuffer string // of the block that is read
	hasID    bool   // the block sets an id

	lastEventID string
	retry       time.Duration
	hasRetry    bool
}

// NewSSE returns a decoder of an event stream that continues after lastEventID;
// empty if it is the first.
func NewSSE(maxEvent int, lastEventID string) *EventStream {
	return &EventStream{max: maxEvent, idBuffer: lastEventID, lastEventID: lastEventID}
}

// LastEventID returns the id with which a client would reconnect: that of the last
// block that has ended, also if it is no event.
func (d *EventStream) LastEventID() string { return d.lastEventID }

// Retry returns the newest reconnection time that the stream has set, and whether
// it has set one.
func (d *EventStream) Retry() (retry time.Duration, ok bool) { return d.retry, d.hasRetry }

// Decode implements [Decoder]. An event's ID is the last one that the stream has
// set, in this event or before; see OwnIDs.
//
// A CR ends its line at once. Waiting for a following LF would delay the event
// until the next one comes.
func (d *EventStream) Decode(dst []event.Event, p []byte) ([]event.Event, error) {
	for len(p) > 0 {
		if d.skipLF {
			d.skipLF = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			end = len(p)
		}
		if len(d.line)+end+len(d.data) > d.max {
			return dst, ErrTooLarge
		}
		if end == len(p) {
			d.line = append(d.line, p...)
			return dst, nil
		}
		line := p[:end]
		if len(d.line) > 0 {
			d.line = append(d.line, line...)
			line = d.line
		}
		d.skipLF = p[end] == '\r'
		p = p[end+1:]
		dst = d.readLine(dst, line)
		d.line = reuse(d.line)
	}
	return dst, nil
}

// End implements [Decoder]. It drops an event that is not complete, as a browser
// does. An event stream has no end of its own.
func (d *EventStream) End(dst []event.Event) ([]event.Event, error) { return dst, nil }

func (d *EventStream) readLine(dst []event.Event, line []byte) []event.Event {
	if !d.started {
		d.started = true
		line = bytes.TrimPrefix(line, bom)
	}
	if len(line) == 0 {
		return d.dispatch(dst)
	}
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "data":
		if d.hasData {
			d.data = append(d.data, '\n')
		}
		d.data, d.hasData = append(d.data, value...), true
	case "event":
		d.name = string(validUTF8(value))
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.idBuffer, d.hasID = string(validUTF8(value)), true
		}
	case "retry":
		d.setRetry(value)
	}
	return dst
}

func (d *EventStream) dispatch(dst []event.Event) []event.Event {
	d.lastEventID = d.idBuffer
	if d.hasData {
		e := event.Event{ID: d.lastEventID, Name: d.name, Data: validUTF8(d.data)}
		if d.OwnIDs && !d.hasID {
			e.ID = ""
		}
		dst = append(dst, e)
	}
	d.name, d.data, d.hasData, d.hasID = "", reuse(d.data), false, false
	return dst
}

// maxRetry limits the reconnection time, as browsers do in one way or another.
const maxRetry = 24 * time.Hour

// setRetry ignores a value with anything but ASCII digits, such as a sign.
func (d *EventStream) setRetry(value []byte) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return
		}
	}
	if len(value) == 0 {
		return
	}
	d.retry, d.hasRetry = maxRetry, true
	if ms, err := strconv.ParseInt(string(value), 10, 64); err == nil && ms < maxRetry.Milliseconds() {
		d.retry = time.Duration(ms) * time.Millisecond
	}
}

// reuse returns an empty buffer. It frees a large one: otherwise each idle stream
// would hold its largest event.
func reuse(buf []byte) []byte {
	if cap(buf) > 4<<10 {
		return nil
	}
	return buf[:0]
}

var _ Decoder = (*EventStream)(nil)
