// Package event is one server-sent event and its wire format, as the WHATWG
// HTML standard defines it (section 9.2, "Server-sent events").
//
// An event is encoded once, into a [Frame] that every stream shares. What an
// encoder here writes can't be anything but one event: a line break in the
// data starts another data line, and ids and names that hold one are refused.
package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxIDLen is how many bytes an id may have. A client sends it back as
	// the Last-Event-ID header, which proxies bound.
	MaxIDLen = 64
	// MaxNameLen is how many bytes an event's name may have.
	MaxNameLen = 255
)

var (
	// ErrID is wrapped by errors about an id that can't be sent.
	ErrID = errors.New("invalid event id")
	// ErrName is wrapped by errors about an event name that can't be sent.
	ErrName = errors.New("invalid event name")
	// ErrNotText is returned for data that is not valid UTF-8; see [Binary].
	ErrNotText = errors.New("event data is not valid UTF-8")
)

// Event is one message as a client sees it.
type Event struct {
	// ID is what a client that reconnects sends as Last-Event-ID. Empty:
	// the event has none, and can't be resumed from.
	ID string
	// Name is the event's type, which EventSource listeners are added for.
	// Empty: a plain message (onmessage).
	Name string
	// Data is the payload: UTF-8 text. CR, LF and CRLF in it all reach the
	// client as LF, since the format can't tell them apart.
	Data []byte
}

// Frame is an encoded event: its lines and the blank line that dispatches it.
// It must not be changed once made; streams share it.
type Frame []byte

// Encode returns e on the wire. It fails with an error that wraps [ErrID],
// [ErrName] or [ErrNotText], and never writes a part.
func (e Event) Encode() (Frame, error) {
	if e.ID != "" {
		if err := CheckID(e.ID); err != nil {
			return nil, err
		}
	}
	if e.Name != "" {
		if err := CheckName(e.Name); err != nil {
			return nil, err
		}
	}
	if !utf8.Valid(e.Data) {
		return nil, ErrNotText
	}
	return e.append(make([]byte, 0, e.sizeHint())), nil
}

// sizeHint is the encoded length, or a little more.
func (e Event) sizeHint() int {
	const fields = len("id: \nevent: \ndata: \n\n")
	lines := bytes.Count(e.Data, []byte("\n")) + bytes.Count(e.Data, []byte("\r"))
	return fields + len(e.ID) + len(e.Name) + len(e.Data) + lines*len("data: ")
}

func (e Event) append(dst []byte) []byte {
	if e.ID != "" {
		dst = append(append(append(dst, "id: "...), e.ID...), '\n')
	}
	if e.Name != "" {
		dst = append(append(append(dst, "event: "...), e.Name...), '\n')
	}
	return append(appendData(dst, e.Data), '\n')
}

// appendData writes one data line per line of data, always with the space that
// a reader strips, so that a space which belongs to the data survives.
func appendData(dst, data []byte) []byte {
	breaks := "\r\n"
	if bytes.IndexByte(data, '\r') < 0 {
		breaks = "\n" // the common case, and many times as fast to search for
	}
	for {
		dst = append(dst, "data: "...)
		i := bytes.IndexAny(data, breaks)
		if i < 0 {
			return append(append(dst, data...), '\n')
		}
		dst = append(append(dst, data[:i]...), '\n')
		if data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n' {
			i++
		}
		data = data[i+1:]
	}
}

// CheckID tells whether id may stand in an id field: 1 to [MaxIDLen] bytes of
// printable ASCII without space, ':' and '"', which some clients and proxies
// mangle in the Last-Event-ID header.
func CheckID(id string) error {
	if id == "" || len(id) > MaxIDLen {
		return fmt.Errorf("%w: want 1 to %d bytes, got %d", ErrID, MaxIDLen, len(id))
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == ':' || c == '"' {
			return fmt.Errorf("%w %q: want printable ASCII without space, colon and quote", ErrID, id)
		}
	}
	return nil
}

// CheckName tells whether name may stand in an event field: 1 to [MaxNameLen]
// bytes of UTF-8 without line breaks and NUL. "error" and "open" are refused,
// since EventSource fires events of its own under these names.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > MaxNameLen:
		return fmt.Errorf("%w: want 1 to %d bytes, got %d", ErrName, MaxNameLen, len(name))
	case strings.ContainsAny(name, "\r\n\x00") || !utf8.ValidString(name):
		return fmt.Errorf("%w %q: want UTF-8 without line breaks and NUL", ErrName, name)
	case name == "error" || name == "open":
		return fmt.Errorf("%w %q: EventSource has that name taken; use another", ErrName, name)
	}
	return nil
}

// Heartbeat keeps an idle stream alive: a comment without a blank line after
// it, since a blank line makes some clients deliver an empty message.
var Heartbeat = Frame(":\n")

// Retry tells the client how long to wait before it reconnects. Like
// [Heartbeat] it has no blank line.
func Retry(d time.Duration) Frame {
	return fmt.Appendf(nil, "retry: %d\n", d.Milliseconds())
}

// Position moves the client's Last-Event-ID without an event: a browser
// dispatches nothing for a block that has no data.
func Position(id string) Frame {
	return fmt.Appendf(nil, "id: %s\n\n", id)
}

// Binary is data that is not text as JSON that carries it:
// {"type":"image/png","base64":"…"}.
func Binary(contentType string, body []byte) []byte {
	envelope := struct {
		Type   string `json:"type"`
		Base64 string `json:"base64"` // as []byte, an empty body would be null
	}{contentType, base64.StdEncoding.EncodeToString(body)}
	data, err := json.Marshal(envelope)
	if err != nil { // two strings always marshal
		panic(err)
	}
	return data
}

// WithID returns a frame with an id field before the others. The frame must
// have been encoded without one, and the id must have passed [CheckID]. It
// exists so that the costly part of encoding needs no knowledge of the position
// that the event is about to get.
func (f Frame) WithID(id string) Frame {
	const field = len("id: \n")
	out := make([]byte, 0, field+len(id)+len(f))
	out = append(append(append(out, "id: "...), id...), '\n')
	return append(out, f...)
}

// WithoutID is the inverse of [Frame.WithID]: what two events have in common
// when they differ in their ids only.
func (f Frame) WithoutID() Frame {
	if rest, ok := bytes.CutPrefix(f, []byte("id: ")); ok {
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			return rest[end+1:]
		}
	}
	return f
}
