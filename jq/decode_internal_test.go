package jq

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/budget"
)

// shapes are documents whose values take much memory, for their size or at all.
var shapes = map[string]string{
	"orders":        list(2000, `{"id":#,"status":"shipped","customer":{"name":"Müller","city":"Köln"},"price":1.90,"tags":["new","sale"],"note":null}`),
	"digits":        list(25_000, "1"),
	"ints":          list(25_000, "#"),
	"fractions":     list(25_000, "#.5"),
	"empty lists":   list(25_000, "[]"),
	"lists":         list(25_000, "[1]"),
	"empty objects": list(25_000, "{}"),
	"objects":       list(10_000, `{"a":1}`),
	"nine members":  list(2000, `{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}`),
	"29 members":    list(1000, "{"+strings.Trim(list(29, `"#":true`), "[]")+"}"),
	"members":       "{" + strings.Trim(list(25_000, `"#":1`), "[]") + "}",
	"few members":   "{" + strings.Trim(list(900, `"#":1`), "[]") + "}",
	"strings":       list(25_000, `"a"`),
	"escapes":       list(25_000, `"\n\u00e9"`),
	"text":          `"` + strings.Repeat("x", 1<<18) + `"`,
	"spaces":        strings.Repeat(" ", 1<<18) + "1",
	"nested":        list(50, strings.Repeat("[", 500)+strings.Repeat("]", 500)),
}

// list returns a list of n items, in which # is their number.
func list(n int, item string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("," + strings.ReplaceAll(item, "#", fmt.Sprint(1000+i)))
	}
	return "[" + b.String()[1:] + "]"
}

func TestMemoryOfDocumentIsKnownBeforeItIsTaken(t *testing.T) {
	for name, doc := range shapes {
		text := []byte(doc)
		size := measure(text).size
		taken := allocated(func() { decode(text, measure(text)) })
		if got := float64(taken) / float64(size); taken > 1000 && (got < 0.7 || got > 1.4) {
			t.Errorf("%s: %d bytes are taken, and %d estimated: %.2f", name, taken, size, got)
		}
		if measured := allocated(func() { measure(text) }); measured > size/2+1000 {
			t.Errorf("%s: the measurement takes %d bytes, the values %d", name, measured, size)
		}
	}
}

func allocated(do func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestDecodedValuesAreThoseOfEncodingJSON(t *testing.T) {
	for name, doc := range shapes {
		if doc := []byte(doc); !equalToStandard(t, doc) {
			t.Errorf("%s is decoded otherwise", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, doc := range []string{
		` { "a" : [ 1 , -0 , 0 , -12, 1.0 , 1e2 , 123456789012345678, 1234567890123456789 ] , "" : { } , "a" : [ ] } `, "0", "[[],[ ],{},{ }]", `"`,
		`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d\ud83d\ude00\ud800x\udc00\ud800\u0041"`, `{"\u0061":1,"a":2}`, `[true,false,null]`, `[1,`, "]", `{"a"`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if !equalToStandard(t, doc) {
			t.Errorf("%q is decoded otherwise", doc)
		}
	})
}

// equalToStandard reports whether a document is decoded to what encoding/json
// makes of it.
func equalToStandard(t *testing.T, doc []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var want any
	err := dec.Decode(&want)
	if _, end := dec.Token(); err == nil && end != io.EOF {
		err = errors.New("something follows")
	}
	if isJSON := err == nil && utf8.Valid(doc); !isJSON || check(doc) != nil {
		return isJSON == (check(doc) == nil)
	}
	return reflect.DeepEqual(withTextOfNumbers(decode(doc, measure(doc))), want)
}

func withTextOfNumbers(value any) any {
	switch v := value.(type) {
	case int:
		return json.Number(fmt.Sprint(v))
	case []any:
		for i := range v {
			v[i] = withTextOfNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = withTextOfNumbers(v[name])
		}
	}
	return value
}

// The large document's values take 80 MB.
func TestLargeDocumentsOfProgramsWaitForEachOther(t *testing.T) {
	program, err := Compile("length")
	if err != nil {
		t.Fatal(err)
	}
	release, err := budget.Process.Take(t.Context(), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("it took too long")
	cancel(cause)
	large := []byte(list(1_000_000, "{}"))
	if _, err := program.Run(waiting, large); !errors.Is(err, cause) {
		t.Errorf("a large document did not wait: %v", err)
	}
	if _, err := program.Run(t.Context(), []byte(list(1000, "{}"))); err != nil {
		t.Errorf("a small document: %v", err)
	}
	release()
	if outputs, err := program.Run(t.Context(), large); err != nil || string(outputs[0]) != "1000000" {
		t.Errorf("a large document alone: %s, %v", outputs, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"orders", "digits", "objects", "escapes"} {
		doc := []byte(shapes[name])
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if err := check(doc); err != nil {
					b.Fatal(err)
				}
				decode(doc, measure(doc))
			}
		})
		b.Run(name+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				dec := json.NewDecoder(bytes.NewReader(doc))
				dec.UseNumber()
				var value any
				if err := dec.Decode(&value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
