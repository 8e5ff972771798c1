package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

func TestEnvelopedFrameNamesTopic(t *testing.T) {
	for _, c := range []struct {
		e           event.Event
		topic, want string
	}{
		{event.Event{ID: "a-1", Name: "paid", Data: []byte(`{"order":17}`)}, "orders/17", "id: a-1\nevent: paid\ndata: {\"topic\":\"orders/17\",\"data\":{\"order\":17}}\n\n"},
		{event.Event{Data: []byte("hello\nworld")}, "news", "data: {\"topic\":\"news\",\"data\":\"hello\\nworld\"}\n\n"},
		{event.Event{Data: []byte("{\n\"a\": 1.10\n}")}, "news", "data: {\"topic\":\"news\",\"data\":{\ndata: \"a\": 1.10\ndata: }}\n\n"},
		{event.Event{ID: "1"}, "x", "id: 1\ndata: {\"topic\":\"x\",\"data\":\"\"}\n\n"},
		{event.Event{Data: []byte("17")}, "x", "data: {\"topic\":\"x\",\"data\":17}\n\n"},
		{event.Event{Data: []byte("12345678901234567890.10")}, "x", "data: {\"topic\":\"x\",\"data\":12345678901234567890.10}\n\n"},
		{event.Event{Data: []byte("data: x\n\n")}, "x", "data: {\"topic\":\"x\",\"data\":\"data: x\\n\\n\"}\n\n"},
		{event.Event{Data: []byte("<b>\u2028")}, `"<\`, "data: {\"topic\":\"\\\"<\\\\\",\"data\":\"<b>\\u2028\"}\n\n"},
	} {
		frame, err := c.e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(frame.Enveloped(c.topic)); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.e, got, c.want)
		}
	}
}

// An enveloped frame is one event with the id, the name and the data of the
// original.
func FuzzEnvelope(f *testing.F) {
	for _, data := range []string{"", "x", "{}", " {}\n", "[1,\r\n2]", "a\rb\r\nc\n", "\"", "\\", "null", "data: x", "\n\n", "1e999", "{\"a\":1,\"a\":2}", "\u2028"} {
		f.Add("id-1", "name", "topic", data)
		f.Add("", "", data, data)
	}
	f.Fuzz(func(t *testing.T, id, name, topic, data string) {
		in := event.Event{ID: id, Name: name, Data: []byte(data)}
		frame, err := in.Encode()
		if err != nil {
			t.Skip()
		}
		before := bytes.Clone(frame)
		out, err := eventtest.NewDecoder(bytes.NewReader(frame.Enveloped(topic)), 0).Next()
		if err != nil || !bytes.Equal(frame, before) {
			t.Fatalf("%q: %v", frame, err)
		}
		var envelope struct {
			Topic string
			Data  json.RawMessage
		}
		if err := json.Unmarshal(out.Data, &envelope); err != nil {
			t.Fatalf("%q: %v", out.Data, err)
		}
		if out.ID != id || out.Name != name || envelope.Topic != strings.ToValidUTF8(topic, "\ufffd") && strings.ToValidUTF8(topic, "") == topic {
			t.Errorf("got %q %q %q, want %q %q %q", out.ID, out.Name, envelope.Topic, id, name, topic)
		}
		want := strings.ReplaceAll(strings.ReplaceAll(data, "\r\n", "\n"), "\r", "\n")
		var text string
		switch {
		case json.Valid([]byte(want)):
			if got := string(envelope.Data); got != strings.TrimSpace(want) {
				t.Errorf("JSON %q became %q", want, got)
			}
		case json.Unmarshal(envelope.Data, &text) != nil || text != want:
			t.Errorf("text %q became %q", want, envelope.Data)
		}
	})
}

func TestEnvelopeOfURLHasNameAndData(t *testing.T) {
	for _, test := range []struct {
		e    event.Event
		want string
	}{
		{event.Event{ID: "1", Data: []byte(`{"a":1}`)}, `{"url":"/a?b=\"<&","data":{"a":1}}`},
		{event.Event{ID: "1", Name: `paid "now"`, Data: []byte("text")}, `{"url":"/a?b=\"<&","event":"paid \"now\"","data":"text"}`},
		{event.Event{Name: "x", Data: []byte("a\r\nb")}, `{"url":"/a?b=\"<&","event":"x","data":"a\nb"}`},
		{event.Event{}, `{"url":"/a?b=\"<&","data":""}`},
	} {
		frame, err := test.e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(frame.EnvelopedForURL(`/a?b="<&`)), "data: "+test.want+"\n\n"; got != want {
			t.Errorf("%q is %q, want %q", frame, got, want)
		}
	}
	if got := string(event.Frame("data: {\ndata: }\n\n").EnvelopedForURL("/")); got != "data: {\"url\":\"/\",\"data\":{\ndata: }}\n\n" {
		t.Errorf("JSON of several lines is %q", got)
	}
}
