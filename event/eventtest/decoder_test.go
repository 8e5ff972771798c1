package eventtest_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

func TestDecoderFollowsStandard(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		want   []string // as by List
	}{
		// The examples of section 9.2.6.
		"three lines": {"data: YHOO\ndata: +2\ndata: 10\n\n", []string{"||YHOO\n+2\n10"}},
		"comment, id, empty id, space": {
			": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
			[]string{"1||first event", "||second event"},
		},
		"empty data, two empty lines, end": {"data\n\ndata\ndata\n\ndata:", []string{"||", "||\n"}},
		"one space after the colon":        {"data:test\n\ndata: test\n\n", []string{"||test", "||test"}},

		"CR, LF and CRLF end lines":         {"data: a\rdata: b\ndata: c\r\n\r\ndata: d\r\r", []string{"||a\nb\nc", "||d"}},
		"LF CR is two line ends":            {"data: a\n\rdata: b\n\n", []string{"||a", "||b"}},
		"a name applies to one event":       {"event: x\ndata: a\n\ndata: b\n\n", []string{"|x|a", "||b"}},
		"a name without data is dropped":    {"event: x\n\ndata: a\n\n", []string{"||a"}},
		"the last name counts":              {"event: x\nevent: y\ndata\n\n", []string{"|y|"}},
		"an id stays":                       {"id: 1\ndata: a\n\ndata: b\n\n", []string{"1||a", "1||b"}},
		"an id without data stays":          {"id: 1\n\ndata: a\n\n", []string{"1||a"}},
		"an empty id clears the id":         {"id: 1\ndata: a\n\nid\ndata: b\n\nid: 2\nid:\ndata: c\n\n", []string{"1||a", "||b", "||c"}},
		"an id with NUL is ignored":         {"id: 1\nid: 2\x00\ndata: a\n\n", []string{"1||a"}},
		"unknown fields are ignored":        {"foo: x\nDATA: x\n data: x\ndata : x\ndatax\ndata: a\n\n", []string{"||a"}},
		"comments are ignored":              {":\n:x\ndata: a\n:data: b\n\n", []string{"||a"}},
		"only the first colon separates":    {"data: a: b:\ndata::c\n\n", []string{"||a: b:\n:c"}},
		"further spaces belong to the data": {"data:  a \n\n", []string{"|| a "}},
		"NUL in data and name is kept":      {"event: \x00\ndata: \x00\n\n", []string{"|\x00|\x00"}},
		"a leading byte order mark":         {"\uFEFFdata: a\n\n", []string{"||a"}},
		"other byte order marks are text":   {"\uFEFF\uFEFFdata: a\n\ndata: b\n\n\uFEFFdata: c\n\n", []string{"||b"}},
		"a byte order mark in data stays":   {"data: \uFEFFa\n\n", []string{"||\uFEFFa"}},
		"nothing but a byte order mark":     {"\uFEFF", nil},
		"other separators are no line ends": {"data: a\u2028b\u0085c\vd\n\n", []string{"||a\u2028b\u0085c\vd"}},
		"blank lines dispatch nothing":      {"\n\n\r\r\n\n", nil},
		"the end truncates an event":        {"data: a\n\ndata: b\n", []string{"||a"}},
		"the end truncates a line":          {"data: a\n\ndata: b", []string{"||a"}},
		"invalid UTF-8 is replaced":         {"data: a\xffb\xc3\n\xfedata: x\nid: \x80\n\n", []string{"\uFFFD||a\uFFFDb\uFFFD"}},
		"nothing":                           {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := fmt.Sprintf("%q", tc.want)
			if got := eventtest.List(eventtest.All(t, eventtest.Decode(tc.stream))); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			oneByte := eventtest.NewDecoder(iotest.OneByteReader(strings.NewReader(tc.stream)), 0)
			if got := eventtest.List(eventtest.All(t, oneByte)); got != want {
				t.Errorf("byte by byte got %s, want %s", got, want)
			}
		})
	}
}

func TestRetryAcceptsOnlyDigits(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1500": 1500 * time.Millisecond, "0": 0, "007": 7 * time.Millisecond, "2147483647": 2147483647 * time.Millisecond,
		"": time.Second, "+5": time.Second, "-5": time.Second, "1.5": time.Second, "5s": time.Second, " 5": time.Second,
		"５": time.Second, "99999999999999999999": time.Second,
	} {
		d := eventtest.Decode("retry: 1000\nretry: " + value + "\n")
		eventtest.All(t, d)
		if d.Retry() != want {
			t.Errorf("retry: %s is %v, want %v", value, d.Retry(), want)
		}
	}
	if d := eventtest.Decode(""); d.Retry() != 0 {
		t.Error(d.Retry())
	}
}

// chunks returns one chunk per Read. A Read after the last chunk fails the test.
type chunks struct {
	t         *testing.T
	remaining []string
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.remaining) == 0 {
		c.t.Fatal("the decoder waits for more bytes after a complete event")
	}
	n := copy(p, c.remaining[0])
	c.remaining = c.remaining[1:]
	return n, nil
}

func TestFinalCRDispatchesEventAtOnce(t *testing.T) {
	d := eventtest.NewDecoder(&chunks{t, []string{"data: a\r\r", "\ndata: b\r", "\n\r"}}, 0)
	for _, want := range []string{"a", "b"} {
		if e, err := d.Next(); string(e.Data) != want || err != nil {
			t.Errorf("%q, %v; want %q", e.Data, err, want)
		}
	}
}

func TestSplitCRLFIsOneLineEnd(t *testing.T) {
	stream := []string{"data: a\r", "\ndata: b\r", "\n", "\r", "\n", "data: c\r", "\n\r", "\n"}
	d := eventtest.NewDecoder(&chunks{t, stream}, 0)
	for _, want := range []string{"a\nb", "c"} {
		if e, err := d.Next(); string(e.Data) != want || err != nil {
			t.Errorf("%q, %v; want %q", e.Data, err, want)
		}
	}
}

func TestReadErrorComesAfterEarlierEvents(t *testing.T) {
	broken := errors.New("connection reset")
	d := eventtest.NewDecoder(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)), 0)
	if e, err := d.Next(); string(e.Data) != "a" || err != nil {
		t.Errorf("%q, %v", e.Data, err)
	}
	if e, err := d.Next(); !errors.Is(err, broken) || e.Data != nil {
		t.Errorf("%q, %v", e.Data, err)
	}
}

func TestEventSizeIsLimited(t *testing.T) {
	const bound = 10_000 // larger than the decoder's buffer
	lines := func(n, length int) string { return strings.Repeat("data:"+strings.Repeat("x", length)+"\n", n) + "\n" }
	for name, tc := range map[string]struct {
		stream string
		err    error
	}{
		"one line":                 {lines(1, bound-len("data:")), nil},
		"a line too long":          {lines(1, bound-len("data:")+1), eventtest.ErrTooLarge},
		"several lines":            {lines(10, 999), nil},
		"lines too many":           {lines(10, 1001), eventtest.ErrTooLarge},
		"empty lines":              {strings.Repeat("data\n", bound+1) + "\n", nil},
		"empty lines too many":     {strings.Repeat("data\n", bound+2) + "\n", eventtest.ErrTooLarge},
		"a comment too long":       {":" + strings.Repeat("x", bound), eventtest.ErrTooLarge},
		"a line without an end":    {strings.Repeat("x", 10*bound), eventtest.ErrTooLarge},
		"many events of that size": {lines(10, 999) + lines(10, 999), nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := eventtest.NewDecoder(strings.NewReader(tc.stream), bound)
			if _, err := d.Next(); !errors.Is(err, tc.err) {
				t.Errorf("got %v, want %v", err, tc.err)
			}
		})
	}
}

func TestEventsShareNoData(t *testing.T) {
	d := eventtest.Decode("data: aaaa\n\ndata: bbbb\n\n")
	first, _ := d.Next()
	if second, err := d.Next(); string(first.Data) != "aaaa" || string(second.Data) != "bbbb" || err != nil {
		t.Errorf("%q, %q, %v", first.Data, second.Data, err)
	}
}

func TestLastEventIDIsThatOfTheLastBlock(t *testing.T) {
	d := eventtest.Decode("id: 1\ndata: x\n\nid: 2\n\nid: 3\ndata: cut")
	for i, want := range []string{"1", "2"} { // the second call finds no event
		_, _ = d.Next()
		if got := d.LastEventID(); got != want {
			t.Errorf("after %d calls: %q, want %q", i+1, got, want)
		}
	}
}
