package jq

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// check fails for a document that isn't one JSON text in UTF-8, and says why.
func check(doc []byte) error {
	if !utf8.Valid(doc) {
		return errors.New("it is not valid UTF-8")
	}
	if json.Valid(doc) {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(doc)))
	switch err := dec.Decode(new(json.RawMessage)); {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it breaks off")
	case err != nil:
		return err
	}
	return errors.New("something follows the document")
}

// decode makes gojq's value of a document that is valid JSON. It takes the memory
// that measure has found: encoding/json takes twice as much. The value shares the
// document's memory.
func decode(doc []byte, m measurement) any {
	d := decoder{doc: doc, text: unsafe.String(unsafe.SliceData(doc), len(doc)), counts: m.counts}
	return d.value()
}

// decoder makes integers ints, which print as they were written; all other numbers
// keep their text. Strings share the text's memory.
type decoder struct {
	doc    []byte
	text   string // the same
	at     int
	counts []uint32 // of the containers that have not begun yet
}

func (d *decoder) value() any {
	d.skipSpace()
	switch c := d.doc[d.at]; c {
	case '[':
		return d.array()
	case '{':
		return d.object()
	case '"':
		return d.string()
	default:
		return d.scalar(c)
	}
}

func (d *decoder) skipSpace() {
	for isSpace(d.doc[d.at]) {
		d.at++
	}
}

// skip skips a comma, a colon or a bracket.
func (d *decoder) skip() {
	d.skipSpace()
	d.at++
}

// begin begins a container and returns the number of its items or members.
func (d *decoder) begin() int {
	n := int(d.counts[0])
	if d.counts, d.at = d.counts[1:], d.at+1; n == 0 {
		d.skip() // its end, which otherwise follows the last item
	}
	return n
}

func (d *decoder) array() []any {
	items := make([]any, d.begin())
	for i := range items {
		items[i] = d.value()
		d.skip()
	}
	return items
}

// object returns an object. The last of several members of a name counts.
func (d *decoder) object() map[string]any {
	n := d.begin()
	members := make(map[string]any, n)
	for range n {
		d.skipSpace()
		name := d.string()
		d.skip()
		members[name] = d.value()
		d.skip()
	}
	return members
}

func (d *decoder) string() string {
	end, escaped := endOfString(d.doc, d.at)
	text := d.text[d.at+1 : end-1]
	d.at = end
	if escaped {
		return unescape(text)
	}
	return text
}

// scalar returns a number, a boolean or null, which begins with c.
func (d *decoder) scalar(c byte) any {
	start := d.at
	d.at = endOfScalar(d.doc, start)
	switch c {
	case 'n':
		return nil
	case 't', 'f':
		return c == 't'
	}
	text := d.text[start:d.at]
	if isInt(text) {
		if n, err := strconv.Atoi(text); err == nil { // on 32-bit machines not all fit
			return n
		}
	}
	return json.Number(text)
}

// unescape replaces the escapes in a string. Half of a surrogate pair becomes
// U+FFFD, as in encoding/json.
func unescape(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for {
		plain, rest, found := strings.Cut(text, `\`)
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		if text = rest[1:]; rest[0] != 'u' {
			b.WriteByte(escapes[rest[0]])
			continue
		}
		r := codeUnit(text)
		if text = text[4:]; utf16.IsSurrogate(r) {
			low := rune(-1)
			if second, ok := strings.CutPrefix(text, `\u`); ok {
				low = codeUnit(second)
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				text = text[len(`\u0000`):]
			}
		}
		b.WriteRune(r)
	}
}

var escapes = [...]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// codeUnit returns the code unit of the four hexadecimal digits that begin a text.
func codeUnit(text string) rune {
	n, _ := strconv.ParseUint(text[:4], 16, 16) // they are valid
	return rune(n)
}
