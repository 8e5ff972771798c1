package event

import (
	"bytes"
	"encoding/json"
	"slices"
)

// Enveloped returns a copy of the frame whose data names the event's topic:
// {"topic":…,"data":…}. JSON data stays unchanged; other text becomes a JSON
// string. The id and the name stay the same. [Event.Encode] must have made the
// frame.
func (f Frame) Enveloped(topic string) Frame {
	head, data := f.split()
	envelope := []byte(`{"topic":`)
	envelope = appendMember(append(envelope, text(topic)...), data)
	out := make([]byte, 0, len(head)+len(envelope)+len("data: \n\n"))
	return append(appendData(append(out, head...), envelope), '\n')
}

// EnvelopedForURL returns an event without id and name whose data says which URL
// the frame's event is from: {"url":…,"event":…,"data":…}. It leaves the name out
// if the event has none. JSON data stays unchanged; other text becomes a JSON
// string. [Event.Encode] or [EncodeRelayed] must have made the frame.
func (f Frame) EnvelopedForURL(url string) Frame {
	head, data := f.split()
	envelope := []byte(`{"url":`)
	envelope = append(envelope, text(url)...)
	for line := range bytes.Lines(head) {
		if name, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("event: ")); ok {
			envelope = append(append(envelope, `,"event":`...), text(string(name))...)
		}
	}
	envelope = appendMember(envelope, data)
	return append(appendData(make([]byte, 0, len(envelope)+len("data: \n\n")), envelope), '\n')
}

// IsPosition reports whether the frame is one of [Position], which dispatches nothing.
func (f Frame) IsPosition() bool { return string(f.WithoutID()) == "\n" }

// appendMember appends the data as the last member of an object.
func appendMember(object, data []byte) []byte {
	object = slices.Grow(append(object, `,"data":`...), len(data)+len(`""}`))
	if !json.Valid(data) {
		data = text(string(data))
	}
	return append(append(object, data...), '}')
}

// text returns s as a JSON string. It doesn't escape <, > and &.
func text(s string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil { // a string always marshals
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// split returns the lines before the data, and the data.
func (f Frame) split() (head, data []byte) {
	for line := range bytes.Lines(f) {
		content, isData := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("data: "))
		switch {
		case isData && data == nil:
			data = append(make([]byte, 0, len(f)), content...)
		case isData:
			data = append(append(data, '\n'), content...)
		case data == nil:
			head = f[:len(head)+len(line)]
		}
	}
	return head, data
}
