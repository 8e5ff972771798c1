// Package diff compares JSON documents and describes their changes as events,
// for clients that hold the earlier document.
//
// Documents are compared as JSON, exactly: white space, the order of members,
// the notation of a number (1.0 = 1 = 10e-1) and escapes in strings
// ("\u0041" = "A") make no difference; everything else does, to the last digit.
// If an object has two members of one name, the last one counts, as for
// encoding/json and JavaScript. Other parsers disagree, so such a document is
// not equal to one without the duplicate, and is never patched.
//
// Events quote the documents' own bytes: numbers keep every digit, and members
// keep their order.
package diff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
// concurrent use. It holds the text and a digest of 16 bytes; [Mode.Events]
// parses the text again, since thousands of documents may be held and few of
// them change at a time.
type Document struct {
	text   []byte
	digest digest
}

// Parse parses a document. It doesn't retain doc.
func Parse(doc []byte) (*Document, error) {
	text, err := compact(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	digest, depth := scan(text)
	if depth > MaxDepth {
		return nil, fmt.Errorf("%w: it is nested deeper than %d", ErrNotJSON, MaxDepth)
	}
	return &Document{text, digest}, nil
}

// compact validates a document and removes the white space between its tokens.
func compact(doc []byte) ([]byte, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("it is not valid UTF-8")
	}
	var buf bytes.Buffer
	buf.Grow(len(doc))
	if err := json.Compact(&buf, doc); err != nil {
		return nil, err
	}
	text := escapeLineSeparators(buf.Bytes())
	if len(text) > math.MaxInt32 {
		return nil, errors.New("it is longer than 2 GiB")
	}
	return trimCapacity(text), nil
}

// escapeLineSeparators escapes U+2028 and U+2029, which some readers of event
// streams take for the end of a line. JSON allows them only in strings. It
// returns text itself if there are none.
func escapeLineSeparators(text []byte) []byte {
	for separator, escaped := range map[string]string{"\u2028": `\u2028`, "\u2029": `\u2029`} {
		if bytes.Contains(text, []byte(separator)) {
			text = bytes.ReplaceAll(text, []byte(separator), []byte(escaped))
		}
	}
	return text
}

// trimCapacity copies a text that wastes more than an eighth of its memory, as
// that of an indented document does.
func trimCapacity(text []byte) []byte {
	if cap(text)-len(text) > cap(text)/8 {
		return bytes.Clone(text)
	}
	return text
}

// Bytes returns the document without white space between its tokens, in which
// U+2028 and U+2029 are escaped. The caller must not change it.
func (d *Document) Bytes() []byte { return d.text }

// Equal reports whether two documents are equal as JSON. It compares digests of
// 128 bits under a random key of the process.
func (d *Document) Equal(other *Document) bool { return d.digest == other.digest }

// Snapshot returns the whole document as an unnamed event.
func (d *Document) Snapshot() event.Event { return event.Event{Data: d.text} }
