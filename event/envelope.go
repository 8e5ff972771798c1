package event

import (
	"bytes"
	"encoding/json"
)

// Enveloped returns a copy of the frame whose data names the event's topic:
// {"topic":…,"data":…}. JSON data stays unchanged; other text becomes a JSON
// string. The id and the name stay the same. [Event.Encode] must have made the
// frame.
func (f Frame) Enveloped(topic string) Frame {
	head, data := f.split()
	var envelope bytes.Buffer
	envelope.Grow(len(`{"topic":"","data":""}`) + len(topic) + len(data))
	envelope.WriteString(`{"topic":`)
	envelope.Write(text(topic))
	envelope.WriteString(`,"data":`)
	if json.Valid(data) {
		envelope.Write(data)
	} else {
		envelope.Write(text(string(data)))
	}
	envelope.WriteByte('}')
	out := make([]byte, 0, len(head)+envelope.Len()+len("data: \n\n"))
	return append(appendData(append(out, head...), envelope.Bytes()), '\n')
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
