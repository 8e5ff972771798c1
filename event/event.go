// Package event encodes server-sent events as the WHATWG HTML standard defines
// them (section 9.2, "Server-sent events").
//
// [Event.Encode] encodes an event once, into a [Frame] that all streams share. A
// frame is always exactly one event: a line break in the data begins another data
// line, and Encode refuses ids and names with a line break.
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
	// MaxIDLen is the maximum length of an id in bytes. Clients send the id in
	// the Last-Event-ID header, whose length proxies limit.
	MaxIDLen = 64
	// MaxNameLen is the maximum length of an event's name in bytes.
	MaxNameLen = 255
)

var (
	// ErrID means that an id is not valid; see [CheckID].
	ErrID = errors.New("invalid event id")
	// ErrName means that an event's name is not valid; see [CheckName].
	ErrName = errors.New("invalid event name")
	// ErrNotText means that data is not valid UTF-8; see [Binary].
	ErrNotText = errors.New("event data is not valid UTF-8")
)

// Event is one event as a client receives it.
type Event struct {
	// ID is the event's id. A client that reconnects sends the last id in the
	// Last-Event-ID header. Empty means no id: the client keeps the one before.
	ID string
	// Name is the event's type, the first argument of addEventListener in a
	// browser. Empty means "message", the type of onmessage.
	Name string
	// Data is the payload, in UTF-8. The client receives each CR, LF and CRLF as
	// LF, since the format doesn't distinguish them.
	Data []byte
}

// Frame is an encoded event: its lines and the blank line that dispatches it.
// Streams share frames, so nobody may change one.
type Frame []byte

// Encode returns the encoded event. It fails with an error that wraps [ErrID],
// [ErrName] or [ErrNotText].
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
	return e.append(make([]byte, 0, e.Size())), nil
}

// EncodeRelayed encodes an event without an id that a backend has named in a stream of
// its own, for pages that know it: its name may be any that a stream can hold, also
// "error" and "open". It fails as [Event.Encode] does.
func EncodeRelayed(name string, data []byte) (Frame, error) {
	e := Event{Name: name, Data: data}
	switch {
	case strings.ContainsAny(name, "\r\n") || !utf8.ValidString(name):
		return nil, fmt.Errorf("%w %q: want UTF-8 without line breaks", ErrName, name)
	case !utf8.Valid(data):
		return nil, ErrNotText
	}
	return e.append(make([]byte, 0, e.Size())), nil
}

// Size returns how many bytes the encoded event has, or a little more.
func (e Event) Size() int {
	const fields = len("id: \nevent: \ndata: \n\n")
	lines := bytes.Count(e.Data, []byte("\n")) + bytes.Count(e.Data, []byte("\r")) - bytes.Count(e.Data, []byte("\r\n"))
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

// appendData writes one data field for each line of data. A client strips one
// space after the colon, so appendData always writes one.
func appendData(dst, data []byte) []byte {
	breaks := "\r\n"
	if bytes.IndexByte(data, '\r') < 0 {
		breaks = "\n" // the common case, and much faster to search for
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

// CheckID returns an error that wraps [ErrID] unless id is 1 to [MaxIDLen] bytes
// of printable ASCII without space, ':' and '"'. Some clients and proxies change
// these characters in the Last-Event-ID header.
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

// CheckName returns an error that wraps [ErrName] unless name is 1 to [MaxNameLen]
// bytes of UTF-8 without line breaks and NUL. It refuses "error" and "open", which
// EventSource uses for its own events.
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

// SafeName returns a name that [CheckName] accepts, with the fewest changes: "error"
// and "open" get an underscore at their end, an underscore replaces each line break,
// each NUL and each sequence of bytes that are not UTF-8, and what exceeds
// [MaxNameLen] is cut off. An empty name stays empty.
func SafeName(name string) string {
	name = strings.ToValidUTF8(name, "_")
	name = strings.NewReplacer("\r", "_", "\n", "_", "\x00", "_").Replace(name)
	if len(name) > MaxNameLen {
		name = strings.ToValidUTF8(name[:MaxNameLen], "") // without a character that the cut has split
	}
	if name == "error" || name == "open" {
		name += "_"
	}
	return name
}

// Retry returns a field that sets the client's reconnection time. It begins a
// stream, and repeated it is the heartbeat that keeps an idle one open.
//
// Neither a comment nor a blank line stands with it: some clients drop an event
// that a comment precedes, and others dispatch an empty event for a blank line.
func Retry(d time.Duration) Frame {
	return fmt.Appendf(nil, "retry: %d\n", d.Milliseconds())
}

// Position returns a block that sets the client's Last-Event-ID. The client
// dispatches no event for it, since it has no data.
func Position(id string) Frame {
	return fmt.Appendf(nil, "id: %s\n\n", id)
}

// Binary returns JSON that carries any bytes as event data:
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

// WithID returns a copy of the frame with an id. The frame must have no id, and
// [CheckID] must accept the id. WithID lets callers encode an event before they
// know its position.
func (f Frame) WithID(id string) Frame {
	const field = len("id: \n")
	out := make([]byte, 0, field+len(id)+len(f))
	out = append(append(append(out, "id: "...), id...), '\n')
	return append(out, f...)
}

// WithoutID returns the frame without its id. It is the inverse of [Frame.WithID].
func (f Frame) WithoutID() Frame {
	if rest, ok := bytes.CutPrefix(f, []byte("id: ")); ok {
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			return rest[end+1:]
		}
	}
	return f
}

// DataOf returns the data of an event of a name, without a copy. It returns false
// if the event has another name, or its data several lines.
func (f Frame) DataOf(name string) (data []byte, ok bool) {
	field := "data: "
	if name != "" {
		field = "event: " + name + "\ndata: "
	}
	data, ok = bytes.CutPrefix(f.WithoutID(), []byte(field))
	if !ok {
		return nil, false
	}
	data, ok = bytes.CutSuffix(data, []byte("\n\n"))
	return data, ok && bytes.IndexByte(data, '\n') < 0
}
