package formats_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/formats"
)

const mixed = `multipart/x-mixed-replace; boundary="b"`

// decode decodes a response that comes in chunks. It returns the events as JSON
// arrays of name, id and data.
func decode(t testing.TB, f formats.Format, max int, chunks ...string) (events []string, err error) {
	t.Helper()
	d, err := formats.New(f, mixed, max)
	if err != nil {
		t.Fatal(err)
	}
	var decoded []event.Event
	for _, chunk := range chunks {
		p := []byte(chunk)
		decoded, err = d.Decode(decoded, p)
		for i := range p {
			p[i] = 'X' // the events must not refer to it
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		decoded, err = d.End(decoded)
	}
	for _, e := range decoded {
		events = append(events, strings.TrimPrefix(fmt.Sprintf("%s|%s|%s", e.Name, e.ID, e.Data), "||"))
	}
	return events, err
}

// ways returns the ways in which the tests split a response: whole, in single
// bytes, and in two parts at each byte.
func ways(body string) [][]string {
	all := [][]string{{body}, strings.Split(body, "")}
	single := make([]string, len(body))
	for i := range len(body) {
		single[i] = body[i : i+1]
		if len(body) < 2000 {
			all = append(all, []string{body[:i], body[i:]})
		}
	}
	all[1] = single
	return all
}

func TestResponseIsDecodedAlikeHoweverItIsSplit(t *testing.T) {
	for _, c := range []struct {
		name   string
		format formats.Format
		body   string
		want   []string
		err    error
	}{
		{"lf", formats.SSE, "data: a\n\n", []string{"a"}, nil},
		{"cr", formats.SSE, "data: a\rdata: b\r\rdata: c\r\r", []string{"a\nb", "c"}, nil},
		{"crlf", formats.SSE, "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", []string{"a\nb", "c"}, nil},
		{"mixed line ends", formats.SSE, "data: a\r\ndata: b\r\ndata: c\n\rdata: d\r\r\n\n", []string{"a\nb\nc", "d"}, nil},
		{"byte order mark", formats.SSE, "\ufeffdata: a\n\n", []string{"a"}, nil},
		{"two byte order marks", formats.SSE, "\ufeff\ufeffdata: a\n\ndata: b\n\n", []string{"b"}, nil},
		{"byte order mark later", formats.SSE, "data: a\n\n\ufeffdata: b\n\n", []string{"a"}, nil},
		{"no colon", formats.SSE, "data\n\ndata\ndata\n\ndata:t\n\n", []string{"", "\n", "t"}, nil},
		{"one space", formats.SSE, "data:  a\n\ndata:b\n\ndata:\tc\n\n", []string{" a", "b", "\tc"}, nil},
		{"comments", formats.SSE, ": hi\n:\n::::\n\ndata: a\n: inside\ndata: b\n\n", []string{"a\nb"}, nil},
		{"unknown fields", formats.SSE, "foo: x\nbar\n data: no\nDATA: no\ndata : no\ndata: yes\n\n", []string{"yes"}, nil},
		{"names", formats.SSE, "event: x\ndata: a\n\ndata: b\n\nevent:\ndata: c\n\ndata: d\nevent: z\n\nevent:  sp \ndata: e\n\n", []string{"x||a", "b", "c", "z||d", " sp ||e"}, nil},
		{"names without data", formats.SSE, "event: x\n\ndata: a\n\n", []string{"a"}, nil},
		{"reserved names", formats.SSE, "event: error\ndata: {}\n\nevent: open\ndata: 1\n\n", []string{"error||{}", "open||1"}, nil},
		{"ids", formats.SSE, "id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\nid: 8\n\ndata: d\n\nid: x\x00y\ndata: e\n\n", []string{"|7|a", "|7|b", "c", "|8|d", "|8|e"}, nil},
		{"NUL in data", formats.SSE, "data: a\x00b\n\n", []string{"a\x00b"}, nil},
		{"characters", formats.SSE, "data: 🙂€\u2028\n\n", []string{"🙂€\u2028"}, nil},
		{"no UTF-8", formats.SSE, "data: a\xe2\x82z\xff\xf0\x9f\x99\xc0\x80\xed\xa0\x80\n\n", []string{"a\ufffdz\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"}, nil},
		{"blank lines", formats.SSE, "\n\n\r\r\r\n\r\ndata: a\n\n\n\n", []string{"a"}, nil},
		{"an unfinished event", formats.SSE, "data: a\n\ndata: b\n", []string{"a"}, nil},
		{"an unfinished line", formats.SSE, "data: a\n\ndata: b", []string{"a"}, nil},
		{"nothing", formats.SSE, "", nil, nil},
		{"OpenAI", formats.SSE, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n", []string{`{"choices":[]}`, "[DONE]"}, nil},

		{"ndjson", formats.NDJSON, "{\"a\":1}\r\n\n  \n[2] \n3", []string{`{"a":1}`, "[2]", "3"}, nil},
		{"ndjson with a byte order mark", formats.NDJSON, "\ufeff{\"a\":1}\n", []string{`{"a":1}`}, nil},
		{"ndjson, not JSON", formats.NDJSON, "hello\n", []string{"hello"}, nil},
		{"lines", formats.Lines, "a\n\n  b \r\nc", []string{"a", "", "  b ", "c"}, nil},
		{"lines, no UTF-8", formats.Lines, "\xe2\x82", []string{"\ufffd"}, nil},
		{"no lines", formats.Lines, "", nil, nil},

		{"json-seq", formats.JSONSeq, "\x1e{\"a\":\n \"}\"}\n\x1e1\n\x1e\"x\\\"\"\n\x1etrue\n", []string{`{"a":"}"}`, "1", `"x\""`, "true"}, nil},
		{"json-seq, truncated", formats.JSONSeq, "\x1e{\"a\":\x1e[1]\n\x1e12\x1e{\"b\" 1}\n\x1e2\n", []string{"[1]", "2"}, nil},
		{"json-seq, empty texts", formats.JSONSeq, "\x1e\x1e \n\x1e3\n", []string{"3"}, nil},
		{"json-seq, the end missing", formats.JSONSeq, "\x1e1\n\x1e{\"a\":", []string{"1"}, formats.ErrUnfinished},

		{"array", formats.JSONArray, "[{\"a\": [1, \"]\\\\\\\"\"]}, 2 ,\n\"x\",null,[],3]\n", []string{`{"a":[1,"]\\\""]}`, "2", `"x"`, "null", "[]", "3"}, nil},
		{"empty array", formats.JSONArray, " [ ] ", nil, nil},
		{"array with a byte order mark", formats.JSONArray, "\ufeff [1]", []string{"1"}, nil},
		{"long numbers", formats.JSONArray, "[12345678901234567890.10]", []string{"12345678901234567890.10"}, nil},
		{"array, the end missing", formats.JSONArray, "[1,2", []string{"1"}, formats.ErrUnfinished},
		{"array, the bracket missing", formats.JSONArray, "[1,{}", []string{"1", "{}"}, formats.ErrUnfinished},
		{"no array", formats.JSONArray, "{\"a\":1}", nil, formats.ErrSyntax},
		{"array without a comma", formats.JSONArray, "[1 2]", []string{"1"}, formats.ErrSyntax},
		{"array with two commas", formats.JSONArray, "[1,,2]", []string{"1"}, formats.ErrSyntax},
		{"array with a comma at the end", formats.JSONArray, "[1,]", []string{"1"}, formats.ErrSyntax},
		{"array with more after it", formats.JSONArray, "[1]x", []string{"1"}, formats.ErrSyntax},
		{"array with a broken element", formats.JSONArray, "[1,{\"a\"}]", []string{"1"}, formats.ErrSyntax},
		{"nothing for an array", formats.JSONArray, "", nil, formats.ErrUnfinished},

		{"parts", formats.Multipart, "preamble\r\n--b\r\nContent-Type: application/json\r\n\r\n{\"a\": 1}\r\n--b\r\n\r\n2\r\n--b--\r\nepilogue", []string{`{"a":1}`, "2"}, nil},
		{"parts with LF", formats.Multipart, "--b\nContent-Type: text/plain\n\nx\n--bc\ny\n--b \n\n\n--b--", []string{"x\n--bc\ny"}, nil},
		{"parts with a length", formats.Multipart, "--b\r\nContent-Length: 11\r\n\r\n[\"\r\n--b\r\n\"]\r\n--b\r\ncontent-length:1\r\n\r\n3", []string{"[\"\r\n--b\r\n\"]", "3"}, nil},
		{"parts that are no text", formats.Multipart, "--b\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--b--", []string{`{"type":"image/png","base64":"iVBORw=="}`}, nil},
		{"a last part without a boundary", formats.Multipart, "--b\r\n\r\n1\r\n--b\r\n\r\n{\"a\":1}\r\n", []string{"1", `{"a":1}`}, nil},
		{"an unfinished part", formats.Multipart, "--b\r\n\r\n1\r\n--b\r\n\r\n{\"a\":", []string{"1"}, formats.ErrUnfinished},
		{"an unfinished header", formats.Multipart, "--b\r\nContent-Type: te", nil, formats.ErrUnfinished},
	} {
		for _, chunks := range ways(c.body) {
			got, err := decode(t, c.format, 1<<20, chunks...)
			if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
				t.Errorf("%s, as %q:\n %q, %v, want\n %q, %v", c.name, chunks, got, err, c.want, c.err)
				break
			}
		}
	}
}

func TestEventIsDecodedWithItsLastByte(t *testing.T) {
	for f, body := range map[formats.Format]string{
		formats.SSE:       "data: a\r\r",
		formats.NDJSON:    "{}\n",
		formats.Lines:     "a\n",
		formats.JSONSeq:   "\x1e{}",
		formats.JSONArray: `["a"`,
		formats.Multipart: "--b\r\nContent-Length: 2\r\n\r\n{}",
	} {
		d, err := formats.New(f, mixed, 100)
		if err != nil {
			t.Fatal(err)
		}
		events, err := d.Decode(nil, []byte(body))
		if len(events) != 1 || err != nil {
			t.Errorf("%s: %v, %v", f, events, err)
		}
	}
}

func TestDecoderKeepsOneEventOfLimitedSize(t *testing.T) {
	const limit = 1000
	long := strings.Repeat("a", limit+1)
	for name, c := range map[string]struct {
		format formats.Format
		body   string
	}{
		"a line":             {formats.SSE, "data: " + long},
		"an ended line":      {formats.SSE, "data: " + long + "\n\n"},
		"many lines":         {formats.SSE, strings.Repeat("data: a\n", limit)},
		"a name":             {formats.SSE, "event: " + long},
		"a line of JSON":     {formats.NDJSON, `"` + long},
		"a line of text":     {formats.Lines, long},
		"a text":             {formats.JSONSeq, "\x1e\"" + long},
		"an element":         {formats.JSONArray, `["` + long},
		"white space":        {formats.JSONArray, strings.Repeat(" ", limit+1)},
		"a part":             {formats.Multipart, "--b\r\n\r\n" + strings.Repeat(long, 20)},
		"a part's length":    {formats.Multipart, "--b\r\nContent-Length: 1001\r\n\r\n" + long},
		"a part's delimiter": {formats.Multipart, "--b" + strings.Repeat(" ", 20*limit)},
		"a part's header":    {formats.Multipart, "--b\r\n" + strings.Repeat(long, 20)},
	} {
		for _, chunks := range [][]string{{c.body}, strings.SplitAfter(c.body, "a"), strings.Split(c.body, "")} {
			if events, err := decode(t, c.format, limit, chunks...); len(events) > 0 || !errors.Is(err, formats.ErrTooLarge) && !errors.Is(err, formats.ErrSyntax) && !(name == "a part's delimiter" && len(chunks) == 1) {
				t.Errorf("%s in %d chunks: %d events, %v", name, len(chunks), len(events), err)
			}
		}
	}
	preamble := strings.Repeat("long\n", limit)
	if events, err := decode(t, formats.Multipart, limit, strings.SplitAfter(preamble+"--b\r\n\r\n1\r\n--b--", "\n")...); len(events) != 1 || err != nil {
		t.Errorf("after a long preamble: %q, %v", events, err)
	}
}

func TestReconnectionTimeHasOnlyDigits(t *testing.T) {
	for value, want := range map[string]string{
		"10": "10ms true", "0": "0s true", "007": "7ms true", "99999999999999999999": "24h0m0s true",
		"10x": "0s false", "-1": "0s false", "1.5": "0s false", "": "0s false", "1e3": "0s false", "٣": "0s false", " 1": "0s false",
	} {
		d := formats.NewSSE(100, "")
		if _, err := d.Decode(nil, []byte("retry: "+value+"\n")); err != nil {
			t.Fatal(err)
		}
		retry, ok := d.Retry()
		if got := fmt.Sprint(retry, ok); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestReconnectionContinuesAfterLastBlock(t *testing.T) {
	d := formats.NewSSE(100, "5")
	for _, c := range [][2]string{{"data: a\n\n", "5"}, {"id: 6\ndata: b\n", "5"}, {"\n", "6"}, {"id: 7\n\n", "7"}, {"id: 8\ndata: c", "7"}} {
		if _, err := d.Decode(nil, []byte(c[0])); err != nil || d.LastEventID() != c[1] {
			t.Errorf("after %q: %q, %v, want %q", c[0], d.LastEventID(), err, c[1])
		}
	}
}

func TestContentTypeTellsFormat(t *testing.T) {
	for contentType, want := range map[string]formats.Format{
		"text/event-stream":                formats.SSE,
		"Text/Event-Stream; charset=utf-8": formats.SSE,
		"application/x-ndjson":             formats.NDJSON,
		"application/jsonl; charset=utf-8": formats.NDJSON,
		"application/stream+json":          formats.NDJSON,
		"application/json-seq":             formats.JSONSeq,
		"application/geo+json-seq":         formats.JSONSeq,
		"application/json":                 formats.JSONArray,
		"application/vnd.api+json":         formats.JSONArray,
		mixed:                              formats.Multipart,
		"multipart/x-mixed-replace":        "",
		"multipart/form-data; boundary=b":  "",
		"text/plain; charset=utf-8":        formats.Lines,
		"text/html":                        "",
		"application/octet-stream":         "",
		"":                                 "",
		"text/event-stream; charset=\"unfinished value": "",
	} {
		if got := formats.Of(contentType); got != want {
			t.Errorf("%q: %q, want %q", contentType, got, want)
		}
	}
	if _, err := formats.New(formats.Multipart, "text/plain", 1); !errors.Is(err, formats.ErrSyntax) {
		t.Errorf("without a boundary: %v", err)
	}
	if _, err := formats.New("xml", "", 1); !errors.Is(err, formats.ErrSyntax) {
		t.Errorf("an unknown format: %v", err)
	}
}

func TestArrayIsKnownByItsFirstByte(t *testing.T) {
	for body, want := range map[string]string{
		"": "false false", " \n": "false false", "\xef": "false false", "\ufeff": "false false", "\ufeff \r": "false false",
		"[": "true true", "\ufeff [1": "true true", "{": "false true", "null": "false true", "<html>": "false true",
		"\xef\xbb[": "false true", " \ufeff[": "false true", "\ufeff\ufeff[": "false true",
	} {
		for _, chunks := range ways(body) {
			var opening formats.Opening
			array, known := false, false
			for i := 0; i < len(chunks) && !known; i++ {
				array, known, _ = opening.IsArray([]byte(chunks[i]))
			}
			if got := fmt.Sprint(array, known); got != want {
				t.Errorf("%q: %s, want %s", chunks, got, want)
			}
		}
	}
}

// The white space before an array may come byte by byte.
func BenchmarkWhiteSpaceBeforeArray(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 14, 1 << 18} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			for b.Loop() {
				d, err := formats.New(formats.JSONArray, "", 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				for range size {
					if _, err := d.Decode(nil, []byte(" ")); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/byte")
		})
	}
}

func TestArrayHasTheElementsOfEncodingJSON(t *testing.T) {
	body := `[{"a":{"b":[[],{}]}}, "\u005d\"", -1.5e+7, true, [[1],[2]], ""]`
	var want []json.RawMessage
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		t.Fatal(err)
	}
	got, err := decode(t, formats.JSONArray, 100, body)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range want {
		if got[i] != string(want[i]) {
			t.Errorf("%s, want %s", got[i], want[i])
		}
	}
}
