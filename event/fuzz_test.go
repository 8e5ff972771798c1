package event_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/tmaxmax/go-sse"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

// normalise returns data with LF for each line break, as a client receives it.
func normalise(data string) string {
	return strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
}

// Any parser decodes an encoded event to exactly that event.
func FuzzEncode(f *testing.F) {
	for _, seed := range [][3]string{
		{"1", "added", "a\nb"}, {"", "", ""}, {"a-1", " x ", "\r\n\r"}, {"1", "", "\n\n"}, {"", "e", "\uFEFF:\x00"},
		{"1\n", "", "x"}, {"", "a\rb", "x"}, {"a b", "error", "\xff"}, {"~", "é\u2028", "id: 2\n\ndata: x\r\r"},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]))
	}
	f.Fuzz(func(t *testing.T, id, name string, data []byte) {
		e := event.Event{ID: id, Name: name, Data: data}
		frame, err := e.Encode()
		if err != nil {
			checkRefusal(t, e, err)
			return
		}
		want := event.Event{ID: id, Name: name, Data: []byte(normalise(string(data)))}
		stream := string(frame)
		if got := eventtest.All(t, eventtest.Decode(stream)); len(got) != 1 || eventtest.List(got) != eventtest.List([]event.Event{want}) {
			t.Errorf("%q is read as %s, want %s", stream, eventtest.List(got), eventtest.List([]event.Event{want}))
		}
		if got := readGoSSE(t, stream); len(got) != 1 || eventtest.List(got) != eventtest.List([]event.Event{want}) {
			t.Errorf("go-sse reads %q as %s, want %s", stream, eventtest.List(got), eventtest.List([]event.Event{want}))
		}
	})
}

func checkRefusal(t *testing.T, e event.Event, err error) {
	t.Helper()
	switch {
	case errors.Is(err, event.ErrID) && event.CheckID(e.ID) != nil:
	case errors.Is(err, event.ErrName) && event.CheckName(e.Name) != nil:
	case errors.Is(err, event.ErrNotText) && !utf8.Valid(e.Data):
	default:
		t.Errorf("%+v: %v", e, err)
	}
}

func readGoSSE(t *testing.T, stream string) (events []event.Event) {
	t.Helper()
	for e, err := range sse.Read(strings.NewReader(stream), &sse.ReadConfig{MaxEventSize: len(stream) + 1<<16}) {
		if err != nil {
			t.Fatalf("go-sse on %q: %v", stream, err)
		}
		events = append(events, event.Event{ID: e.LastEventID, Name: e.Type, Data: []byte(e.Data)})
	}
	return events
}

// The decoder reads a stream in the same way however it is split, and as go-sse
// does where go-sse follows the standard.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\n", "id: 1\rdata: a\r\revent:x\r\ndata\r\n\r\n", ":\nretry: 5\n\n", "\uFEFFdata: a\n\n",
		"id: 1\x00\ndata: \xff\n\n", "data\n\ndata\ndata\n\ndata:", "event: x\n\ndata: a\n\n", "\n\r\n\rdata: a\r\n\r",
		"id\n\nid: 2\n\ndata:  b", "dataa: x\ndata : y\n data: z\n\n", "\xef\xbbdata: a\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		want, wantErr := decodeAll(strings.NewReader(string(stream)))
		for _, r := range []io.Reader{
			iotest.OneByteReader(strings.NewReader(string(stream))),
			iotest.HalfReader(strings.NewReader(string(stream))),
			iotest.DataErrReader(strings.NewReader(string(stream))),
		} {
			if got, err := decodeAll(r); eventtest.List(got) != eventtest.List(want) || !errors.Is(err, wantErr) {
				t.Errorf("%q in pieces is %s, %v, and at once %s, %v", stream, eventtest.List(got), err, eventtest.List(want), wantErr)
			}
		}
		if !errors.Is(wantErr, io.EOF) {
			t.Errorf("%q: %v", stream, wantErr)
		}
		compareWithGoSSE(t, string(stream))
	})
}

func decodeAll(r io.Reader) (events []event.Event, err error) {
	d := eventtest.NewDecoder(r, 0)
	for {
		e, err := d.Next()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

// compareWithGoSSE allows for four differences of go-sse v0.11.0:
//
//   - It yields an event without data for a block that has only an id or a name.
//     The standard dispatches none, so compareWithGoSSE drops empty events.
//   - It yields an event that the end of the stream truncates, so compareWithGoSSE
//     adds a blank line.
//   - It strips a byte order mark after leading blank lines, too.
//   - It doesn't replace bytes that are not UTF-8.
func compareWithGoSSE(t *testing.T, stream string) {
	t.Helper()
	const bom = "\uFEFF"
	if trimmed := strings.TrimLeft(stream, "\r\n"); trimmed != stream && strings.HasPrefix(trimmed, bom) {
		return
	}
	stream += "\n\n"
	var theirs []event.Event
	for _, e := range readGoSSE(t, stream) {
		theirs = append(theirs, event.Event{ID: valid(e.ID), Name: valid(e.Name), Data: []byte(valid(string(e.Data)))})
	}
	ours := eventtest.All(t, eventtest.Decode(stream))
	if got, want := eventtest.List(withData(ours)), eventtest.List(withData(theirs)); got != want {
		t.Errorf("%q is %s, and for go-sse %s", stream, got, want)
	}
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func withData(events []event.Event) (some []event.Event) {
	for _, e := range events {
		if len(e.Data) > 0 {
			some = append(some, e)
		}
	}
	return some
}
