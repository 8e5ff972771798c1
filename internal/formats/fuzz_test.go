package formats_test

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/internal/formats"
)

// FuzzSplit splits a response at any byte: the events are the same.
func FuzzSplit(f *testing.F) {
	for i, body := range []string{
		"\ufeffid: 1\r\nevent: x\rdata: a\n\n", "{\"a\":1}\n\r\n2", "\x1e{\"a\":1}\n\x1e2\n",
		"[{\"a\": \"]\"}, 2]", "--b\r\nContent-Length: 1\r\n\r\n1\r\n--b\r\n\r\n{}\r\n--b--", "a\r\nb",
	} {
		f.Add(i, body, uint16(3))
	}
	f.Fuzz(func(t *testing.T, format int, body string, at uint16) {
		if format < 0 || format >= len(formats.All) || len(body) > 1000 {
			return
		}
		i := int(at) % (len(body) + 1)
		whole, err := decode(t, formats.All[format], 2000, body)
		split, splitErr := decode(t, formats.All[format], 2000, body[:i], body[i:])
		single, singleErr := decode(t, formats.All[format], 2000, strings.Split(body, "")...)
		if !slices.Equal(whole, split) || !slices.Equal(whole, single) || kind(err) != kind(splitErr) || kind(err) != kind(singleErr) {
			t.Errorf("%s %q: %q, %v; split at %d: %q, %v; in bytes: %q, %v", formats.All[format], body, whole, err, i, split, splitErr, single, singleErr)
		}
		for _, e := range whole {
			if !utf8.ValidString(e) {
				t.Errorf("%q is no UTF-8", e)
			}
		}
	})
}

func kind(err error) error {
	for _, kind := range []error{formats.ErrTooLarge, formats.ErrSyntax, formats.ErrUnfinished} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err
}

// FuzzSSE compares the decoder with that of the tests.
func FuzzSSE(f *testing.F) {
	f.Add("\ufeffid: 1\nevent: x\rdata: a\r\ndata\n\nretry: 5\n\ndata: b\n\n")
	f.Fuzz(func(t *testing.T, body string) {
		if !utf8.ValidString(body) { // eventtest replaces runs of other bytes
			return
		}
		d := formats.NewSSE(1<<20, "")
		got, err := d.Decode(nil, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		for reader := eventtest.NewDecoder(strings.NewReader(body), 0); ; {
			want, err := reader.Next()
			if err == io.EOF {
				break
			}
			if err != nil || len(got) == 0 || !equal(got[0], want) {
				t.Fatalf("%q: %q, want %q (%v)", body, got, want, err)
			}
			got = got[1:]
		}
		if len(got) > 0 {
			t.Errorf("%q: also %q", body, got)
		}
	})
}

func equal(a, b event.Event) bool {
	return a.ID == b.ID && a.Name == b.Name && string(a.Data) == string(b.Data)
}

// FuzzJSONArray compares the elements with those of encoding/json.
func FuzzJSONArray(f *testing.F) {
	f.Add(`[{"a":[1,"]"]},2,"\\\"",null,[[]] , -1e5]`)
	f.Fuzz(func(t *testing.T, body string) {
		var want []json.RawMessage
		if json.Unmarshal([]byte(body), &want) != nil || want == nil || !utf8.ValidString(body) {
			return
		}
		got, err := decode(t, formats.JSONArray, 1<<20, strings.Split(body, "")...)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q: %q, %v", body, got, err)
		}
		for i := range want {
			if !sameJSON(got[i], string(want[i])) {
				t.Errorf("%q: %q, want %q", body, got[i], want[i])
			}
		}
	})
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}
