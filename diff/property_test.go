package diff

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var names = rapid.SampledFrom([]string{"", "a", "b", "c", "id", "a/b", "m~n", "~0", "~1", "/", "-", "0", "1", "é", "😀", "\u2028", `"\`, "<&>", "\x00", "event"})

var scalars = rapid.OneOf(
	rapid.Just[any](nil), rapid.Just[any](true), rapid.Just[any](false),
	rapid.Map(rapid.SampledFrom([]string{"0", "1", "-1", "2.50", "9007199254740992", "9007199254740993", "18446744073709551616", "0.1", "0.1000000000000000055", "1e400", "-1e-400", "123456789012345678901234567890.000000001"}), func(s string) any { return json.Number(s) }),
	rapid.Map(rapid.IntRange(-5, 1e6), func(i int) any { return json.Number(fmt.Sprint(i)) }),
	rapid.Map(names, func(s string) any { return s }),
	rapid.Map(rapid.StringN(0, 60, -1), func(s string) any { return s }),
)

// drawValue draws any JSON value, as encoding/json decodes it.
func drawValue(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	switch {
	case depth == 0 || kind < 2:
		return scalars.Draw(t, "scalar")
	case kind < 4:
		object := make(map[string]any)
		for range rapid.IntRange(0, 6).Draw(t, "members") {
			object[names.Draw(t, "name")] = drawValue(t, depth-1)
		}
		return object
	default:
		array := []any{}
		for range rapid.IntRange(0, 8).Draw(t, "items") {
			array = append(array, drawValue(t, depth-1))
		}
		return array
	}
}

// drawList draws a list of items, and sometimes one without valid keys.
func drawList(t *rapid.T) any {
	list := []any{}
	for i := range rapid.IntRange(0, 8).Draw(t, "items") {
		var id any = json.Number(fmt.Sprint(i))
		if rapid.IntRange(0, 30).Draw(t, "odd") == 0 {
			id = scalars.Draw(t, "id")
		}
		list = append(list, map[string]any{"id": id, "v": drawValue(t, 1)})
	}
	return list
}

// drawChange changes a value in at most one place.
func drawChange(t *rapid.T, v any) any {
	if rapid.IntRange(0, 7).Draw(t, "anew") == 0 {
		return drawValue(t, 2)
	}
	switch v := v.(type) {
	case map[string]any:
		name := names.Draw(t, "name")
		if len(v) > 0 && rapid.Bool().Draw(t, "one that is there") {
			name = rapid.SampledFrom(slices.Sorted(maps.Keys(v))).Draw(t, "name")
		}
		if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
			delete(v, name)
		} else {
			v[name] = drawChange(t, v[name])
		}
		return v
	case []any:
		return drawChangeOfArray(t, v)
	default:
		return scalars.Draw(t, "scalar")
	}
}

func drawChangeOfArray(t *rapid.T, v []any) any {
	i := rapid.IntRange(0, len(v)).Draw(t, "index")
	switch how := rapid.IntRange(0, 3).Draw(t, "how"); {
	case how == 0 || i == len(v):
		return slices.Insert(v, i, drawValue(t, 2))
	case how == 1:
		return slices.Delete(v, i, i+1)
	case how == 2:
		j := rapid.IntRange(0, len(v)-1).Draw(t, "other")
		v[i], v[j] = v[j], v[i]
	default:
		v[i] = drawChange(t, v[i])
	}
	return v
}

// write writes a value in one of its JSON notations: with white space, members in
// any order or duplicate, escapes and trailing zeros.
func write(t *rapid.T, dst []byte, v any) []byte {
	style := rapid.IntRange(0, 9).Draw(t, "style")
	if style == 0 {
		dst = append(dst, " \n\t\r"...)
	}
	switch v := v.(type) {
	case map[string]any:
		dst = append(dst, '{')
		order := rapid.Permutation(slices.Sorted(maps.Keys(v))).Draw(t, "order")
		if len(order) > 0 && style == 1 {
			dst = append(write(t, dst, order[0]), `:[{"a":null}],`...)
		}
		for i, name := range order {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = write(t, append(write(t, dst, name), ':'), v[name])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = write(t, dst, item)
		}
		return append(dst, ']')
	case string:
		return writeString(dst, v, style)
	case json.Number:
		return writeNumber(dst, string(v), style)
	default:
		return append(dst, encode(v)...)
	}
}

func writeString(dst []byte, s string, style int) []byte {
	switch style {
	case 1: // all escaped
		dst = append(dst, '"')
		for _, r := range s {
			if r > 0xFFFF {
				dst = append(dst, string(r)...)
			} else {
				dst = fmt.Appendf(dst, `\u%04X`, r)
			}
		}
		return append(dst, '"')
	case 2:
		return append(dst, encode(s)...)
	default:
		return append(dst, bytes.ReplaceAll(quote(s), []byte(`\u2028`), []byte("\u2028"))...)
	}
}

func writeNumber(dst []byte, n string, style int) []byte {
	dst = append(dst, n...)
	exponent := strings.Contains(n, "e")
	switch {
	case style == 1 && !exponent && strings.Contains(n, "."):
		return append(dst, "00"...)
	case style == 1 && !exponent:
		return append(dst, ".0"...)
	case style == 2 && !exponent:
		return append(dst, "E+00"...)
	}
	return dst
}

func TestClientCopyAlwaysEqualsBackendDocument(t *testing.T) {
	all := modes(t)
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.SampledFrom(all).Draw(t, "mode")
		var doc any
		if m.name == "items" || rapid.Bool().Draw(t, "list") {
			doc = drawList(t)
		} else {
			doc = drawValue(t, 4)
		}
		c := client{key: []string{"id"}}
		var old *Document
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			text := write(t, nil, doc)
			old = step(t, m, &c, old, text)
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				doc = drawChange(t, doc)
			}
		}
	})
}

// step brings a client to the next document and checks the client's copy.
func step(t interface{ Fatalf(string, ...any) }, m *Mode, c *client, old *Document, text []byte) *Document {
	now, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if old != nil && old.Equal(now) != areEqual(old, now) && !(old.ambiguous && now.ambiguous) {
		t.Fatalf("Equal is %v for %s and %s", old.Equal(now), old.Bytes(), text)
	}
	events, err := m.Events(context.Background(), old, now)
	if err != nil {
		t.Fatalf("%s: %v", m, err)
	}
	before := c.doc
	if err := c.receive(events); err != nil {
		t.Fatalf("%s from %s to %s: %v", m, before, text, err)
	}
	if err := c.differs(m, text); err != nil {
		t.Fatalf("%s from %s to %s: %v", m, before, text, err)
	}
	for _, e := range events {
		if e.Name != "patch" && e.Name != "merge" {
			continue
		}
		if len(e.Data) >= len(now.Bytes()) {
			t.Fatalf("%s from %s to %s: %s is not shorter", m, before, text, e.Data)
		}
		if e.Name == "merge" && bytes.Contains(e.Data, []byte("[")) {
			continue // json-patch v5.9.11 takes nulls out of objects in arrays, against RFC 7396
		}
		theirs, err := applyWithLibrary(before, e)
		if err != nil || canonical(theirs) != canonical(text) {
			t.Fatalf("%s of %s by json-patch: %s, %v", e.Data, before, theirs, err)
		}
	}
	return now
}

// areEqual compares by a second implementation.
func areEqual(a, b *Document) bool {
	return canonical(a.Bytes()) == canonical(b.Bytes()) && a.ambiguous == b.ambiguous
}

// differs compares the client's copy with the backend's document.
func (c *client) differs(m *Mode, text []byte) error {
	if m.name != "items" {
		if canonical(c.doc) != canonical(text) {
			return fmt.Errorf("the client has %s", c.doc)
		}
		return nil
	}
	want := itemsOf(text, c.key)
	if !maps.EqualFunc(c.items, want, func(a, b json.RawMessage) bool { return canonical(a) == canonical(b) }) {
		return fmt.Errorf("the client has %s", c.items)
	}
	return nil
}

func FuzzEvents(f *testing.F) {
	for _, pair := range [][2]string{
		{`{"a":[1,2.50,"x"],"b":{"c":null}}`, `{"b":{"c":1},"a":[1,"x"]}`},
		{`[{"id":1},{"id":2.0,"a":1}]`, `[{"id":2,"a":2},{"id":"1"}]`},
		{`{"\ud800":1,"/":"~","":{"":[[[]]]}}`, `{"\ud801":1,"\/":"\u007e","":{"":[[[1]]]}}`},
		{`[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]`, `[0,1,2,3,4,5,7,6,8,9,10,11,12,13,14]`},
		{`{"a":1,"a":2,"p":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`, `{"a":1,"p":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`},
		{"1e999999999", "\"\u2028\""}, {"\xff", "[[["}, {"-0.0e-0", "0"},
	} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	all := modes(f)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		old, errOld := Parse(a)
		now, errNow := Parse(b)
		for doc, err := range map[*[]byte]error{&a: errOld, &b: errNow} {
			if (err == nil) != (json.Valid(*doc) && utf8.Valid(*doc)) {
				t.Fatalf("%q: %v", *doc, err)
			}
		}
		// A client in Go can't represent half a surrogate pair.
		if errOld != nil || errNow != nil || hasSurrogate(old.Bytes()) || hasSurrogate(now.Bytes()) {
			if errOld == nil && errNow == nil {
				for _, m := range all {
					_, _ = m.Events(context.Background(), old, now)
				}
			}
			return
		}
		for _, m := range all {
			c := client{key: []string{"id"}}
			var last *Document
			for _, text := range [][]byte{a, b, a} {
				last = step(t, m, &c, last, text)
			}
		}
	})
}
