// Package diff compares JSON documents and describes their changes as events,
// for clients that hold the earlier document.
//
// Documents are compared as JSON, exactly: white space, the order of members,
// the notation of a number (1.0 = 1 = 10e-1) and escapes in strings
// ("\u0041" = "A") make no difference; everything else does, to the last digit.
// If an object has two members of one name, parsers disagree which one counts:
// there the order of members makes a difference, and such a document is never
// patched.
//
// Events quote the documents' own bytes: numbers keep every digit, and members
// keep their order.
package diff

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/jq"
)

// ErrNotJSON is wrapped by the error of [Parse] for a document that is not one
// JSON text in UTF-8 (RFC 8259), or is nested deeper than [MaxDepth].
var ErrNotJSON = jq.ErrNotJSON

// MaxDepth is the maximum nesting of a document. It is a little less than the
// 10,000 that encoding/json reads, so that an event that wraps a document can be
// read as well.
const MaxDepth = 9_990

// Document is a JSON document at one time. It is immutable and safe for
// concurrent use. It holds the text and a digest; [Mode.Events] reads the text
// again, since thousands of documents may be held and few of them change at a
// time.
type Document struct {
	text      []byte
	digest    digest
	ambiguous bool // see scanner
}

// Parse parses a document. It retains doc, which the caller must not change.
func Parse(doc []byte) (*Document, error) {
	text, err := compact(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	scan := newScanner(text)
	defer scan.free()
	_, digest := scan.value(0)
	if scan.maxDepth > MaxDepth {
		return nil, fmt.Errorf("%w: it is nested deeper than %d", ErrNotJSON, MaxDepth)
	}
	return &Document{text, digest, scan.ambiguous}, nil
}

// compact validates a document, removes the white space between its tokens and
// escapes U+2028 and U+2029, which some readers of event streams take for the
// end of a line. JSON allows them only in strings. It returns doc itself if
// nothing has to be changed, and doc wastes no more than an eighth of its memory.
func compact(doc []byte) ([]byte, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("it is not valid UTF-8")
	}
	if !json.Valid(doc) {
		return nil, json.Unmarshal(doc, new(json.RawMessage)) // says why
	}
	size := 0
	for token := range tokens(doc) {
		size += len(token)
	}
	if size > math.MaxInt32 {
		return nil, errors.New("it is longer than 2 GiB")
	}
	if size == len(doc) && cap(doc)-size <= cap(doc)/8 {
		return doc, nil
	}
	text := make([]byte, 0, size)
	for token := range tokens(doc) {
		text = append(text, token...)
	}
	return text, nil
}

// tokens yields the compact text of a valid document, in parts.
func tokens(doc []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		start := 0 // of what is not yielded yet
		part := func(end, next int, instead string) bool {
			ok := (end == start || yield(doc[start:end])) && (instead == "" || yield([]byte(instead)))
			start = next
			return ok
		}
		for at := 0; at < len(doc); at++ {
			switch doc[at] {
			case ' ', '\t', '\n', '\r':
				if !part(at, at+1, "") {
					return
				}
			case '"':
				end := endOfString(doc, at)
				for ; at < end; at++ {
					if doc[at] == 0xE2 && doc[at+1] == 0x80 && doc[at+2]&^1 == 0xA8 && !part(at, at+3, lineSeparators[doc[at+2]&1]) {
						return
					}
				}
				at--
			}
		}
		part(len(doc), len(doc), "")
	}
}

// lineSeparators are the escapes of U+2028 and U+2029.
var lineSeparators = [...]string{`\u2028`, `\u2029`}

// In returns the same document in other bytes, which must be equal to
// [Document.Bytes]. It retains them.
func (d *Document) In(text []byte) *Document { return &Document{text, d.digest, d.ambiguous} }

// Bytes returns the document without white space between its tokens, in which
// U+2028 and U+2029 are escaped. The caller must not change it.
func (d *Document) Bytes() []byte { return d.text }

// Equal reports whether two documents are equal as JSON. It compares digests of
// 128 bits under a random key of the process.
func (d *Document) Equal(other *Document) bool { return d.digest == other.digest }

// Snapshot returns the whole document as an unnamed event.
func (d *Document) Snapshot() event.Event { return event.Event{Data: d.text} }
