package event_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

func encode(t testing.TB, e event.Event) string {
	t.Helper()
	frame, err := e.Encode()
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	return string(frame)
}

func TestEventIsFieldsAndBlankLine(t *testing.T) {
	for want, e := range map[string]event.Event{
		"data: x\n\n":                              {Data: []byte("x")},
		"id: 7\ndata: x\n\n":                       {ID: "7", Data: []byte("x")},
		"event: added\ndata: x\n\n":                {Name: "added", Data: []byte("x")},
		"id: a-1\nevent: order paid\ndata: {}\n\n": {ID: "a-1", Name: "order paid", Data: []byte("{}")},
		"data: \n\n":                               {},
		"id: 7\ndata: \n\n":                        {ID: "7"},
	} {
		if got := encode(t, e); got != want {
			t.Errorf("%+v is %q, want %q", e, got, want)
		}
	}
}

func TestEachLineOfDataIsOneDataField(t *testing.T) {
	for data, lines := range map[string][]string{
		"a\nb":         {"a", "b"},
		"a\rb":         {"a", "b"},
		"a\r\nb":       {"a", "b"},
		"a\n\rb":       {"a", "", "b"},
		"a\r\rb":       {"a", "", "b"},
		"a\r\n\r\nb":   {"a", "", "b"},
		"a\n\r\n\rb":   {"a", "", "", "b"},
		"a\n":          {"a", ""},
		"a\r":          {"a", ""},
		"a\r\n":        {"a", ""},
		"a\n\n":        {"a", "", ""},
		"\na":          {"", "a"},
		"\n":           {"", ""},
		"\r\n":         {"", ""},
		"\n\n\n":       {"", "", "", ""},
		"":             {""},
		" a":           {" a"},
		"  a\n  b":     {"  a", "  b"},
		"\ta":          {"\ta"},
		":a\n:b":       {":a", ":b"},
		"id: 9\ndata:": {"id: 9", "data:"},
		"a\x00b":       {"a\x00b"},
		"\uFEFFa":      {"\uFEFFa"},
	} {
		want := "data: " + strings.Join(lines, "\ndata: ") + "\n\n"
		if got := encode(t, event.Event{Data: []byte(data)}); got != want {
			t.Errorf("%q is %q, want %q", data, got, want)
		}
	}
}

func TestOtherSeparatorsAreNoLineBreaks(t *testing.T) {
	const data = "a\u2028b\u2029c\u0085d\ve\ff\x1cg"
	if got := encode(t, event.Event{Data: []byte(data)}); got != "data: "+data+"\n\n" {
		t.Errorf("%q", got)
	}
}

func TestUnsafeIDIsRefused(t *testing.T) {
	for _, id := range []string{
		"a\nb", "a\rb", "a\r\ndata: x", "\n", "\x00", "a\x00", " ", "a b", "a\t", "a:b", `a"b`, "\x7f", "é", "\u2028", "\xff", "1\x1b",
		strings.Repeat("x", event.MaxIDLen+1),
	} {
		if frame, err := (event.Event{ID: id, Data: []byte("x")}).Encode(); !errors.Is(err, event.ErrID) || frame != nil {
			t.Errorf("%q: %q, %v", id, frame, err)
		}
	}
	for _, id := range []string{"0", "a", "!", "~", "{}", "a,b;c=d", strings.Repeat("x", event.MaxIDLen)} {
		encode(t, event.Event{ID: id})
	}
	if err := event.CheckID(""); !errors.Is(err, event.ErrID) {
		t.Errorf("an empty id: %v", err)
	}
}

func TestNameWithLineBreakIsRefused(t *testing.T) {
	for _, name := range []string{
		"a\nb", "a\rb", "a\r\nid: 1", "\n", "\x00", "a\x00b", "\xff", strings.Repeat("x", event.MaxNameLen+1),
	} {
		if frame, err := (event.Event{Name: name, Data: []byte("x")}).Encode(); !errors.Is(err, event.ErrName) || frame != nil {
			t.Errorf("%q: %q, %v", name, frame, err)
		}
	}
	for _, name := range []string{"a", " a ", "a:b", ":", "é", "a\u2028b", "\uFEFF", strings.Repeat("x", event.MaxNameLen)} {
		encode(t, event.Event{Name: name})
	}
	if err := event.CheckName(""); !errors.Is(err, event.ErrName) {
		t.Errorf("an empty name: %v", err)
	}
}

func TestReservedNamesAreRefused(t *testing.T) {
	for _, name := range []string{"error", "open"} {
		if err := event.CheckName(name); !errors.Is(err, event.ErrName) || !strings.Contains(err.Error(), "taken") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"message", "Error", "open ", "errors"} {
		if err := event.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestInvalidUTF8DataIsRefused(t *testing.T) {
	for _, data := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "a\n\xfe"} {
		if frame, err := (event.Event{Data: []byte(data)}).Encode(); !errors.Is(err, event.ErrNotText) || frame != nil {
			t.Errorf("%q: %q, %v", data, frame, err)
		}
	}
}

func TestFrameDoesNotShareMemoryWithData(t *testing.T) {
	data := []byte("a\r\nb\rc")
	frame, err := event.Event{Data: data}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	frame[6] = 'X'
	if string(data) != "a\r\nb\rc" {
		t.Errorf("%q", data)
	}
}

func TestRetryAndPositionDispatchNoEvent(t *testing.T) {
	retry := string(event.Retry(1500 * time.Millisecond))
	stream := retry + retry + string(event.Position("p1")) + retry
	if want := "retry: 1500\nretry: 1500\nid: p1\n\nretry: 1500\n"; stream != want {
		t.Fatalf("%q, want %q", stream, want)
	}
	d := eventtest.Decode(stream)
	if got := eventtest.All(t, d); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if d.Retry() != 1500*time.Millisecond || d.Comments() != 0 {
		t.Errorf("retry %v, %d comments", d.Retry(), d.Comments())
	}
}

func TestRetryBetweenEventsChangesNeither(t *testing.T) {
	a := encode(t, event.Event{ID: "1", Data: []byte("a")})
	b := encode(t, event.Event{Data: []byte("b")})
	got := eventtest.All(t, eventtest.Decode(a+strings.Repeat(string(event.Retry(time.Second)), 3)+b))
	if len(got) != 2 || string(got[0].Data) != "a" || string(got[1].Data) != "b" || got[1].Name != "" {
		t.Errorf("%+v", got)
	}
}

func TestPositionSetsLastEventID(t *testing.T) {
	got := eventtest.All(t, eventtest.Decode(string(event.Position("p1"))+"data: x\n\n"))
	if len(got) != 1 || got[0].ID != "p1" {
		t.Errorf("%+v", got)
	}
}

func TestBinaryDataIsJSONWithType(t *testing.T) {
	body := []byte{0, 0xff, '\n', 0x89}
	for _, contentType := range []string{"image/png", "", `a/b; c="d<>&"`, "x\r\n\u2028"} {
		data := event.Binary(contentType, body)
		var envelope struct{ Type, Base64 string }
		if err := json.Unmarshal(data, &envelope); err != nil {
			t.Fatal(err)
		}
		decoded, err := base64.StdEncoding.DecodeString(envelope.Base64)
		if envelope.Type != contentType || string(decoded) != string(body) || err != nil {
			t.Errorf("%q came out as %+v, %v", contentType, envelope, err)
		}
		if strings.ContainsAny(string(data), "\r\n\u2028") {
			t.Errorf("%q has a line break", data)
		}
		encode(t, event.Event{Data: data})
	}
	if got := string(event.Binary("a/b", nil)); got != `{"type":"a/b","base64":""}` {
		t.Error(got)
	}
}

func TestRelayedEventKeepsItsName(t *testing.T) {
	for _, name := range []string{"error", "open", "a\x00b", strings.Repeat("x", 1000)} {
		frame, err := event.EncodeRelayed(name, []byte("1"))
		if want := "event: " + name + "\ndata: 1\n\n"; err != nil || string(frame) != want {
			t.Errorf("%q: %q, %v", name, frame, err)
		}
	}
	for _, name := range []string{"a\nb", "a\rb", "\xff"} {
		if frame, err := event.EncodeRelayed(name, nil); !errors.Is(err, event.ErrName) {
			t.Errorf("%q: %q, %v", name, frame, err)
		}
	}
	if frame, err := event.EncodeRelayed("", []byte("\xff")); !errors.Is(err, event.ErrNotText) {
		t.Errorf("%q, %v", frame, err)
	}
}
