// Package diff tells what has changed between two JSON documents, and says it
// to a client that has the old one.
//
// Documents are compared as JSON, exactly: white space, the order of members,
// the way a number is written (1.0 = 1 = 10e-1) and escapes in strings
// ("\u0041" = "A") make no difference, everything else does, to the last digit.
// Where an object has two members of one name the last one counts, as it does
// for encoding/json and for JavaScript; but since other readers disagree, such a
// document is not equal to one without the others, and never patched.
//
// What is sent is cut out of the documents as they came, so numbers keep every
// digit on their way through and members their order.
package diff

import (
	"bytes"
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

// MaxDepth is how deep a document may be nested. It is a little less than the
// 10,000 that encoding/json reads, so that events with a part of the document in
// them can still be read.
const MaxDepth = 9_990

// Document is a JSON document at one time. It is immutable and safe for
// concurrent use. It holds its text and 16 bytes; what comparing needs beyond
// that is made anew from the text, since there may be thousands of documents,
// and most are not changing.
type Document struct {
	text []byte
	sum  sum
}

// Parse reads a document. It doesn't keep doc.
func Parse(doc []byte) (*Document, error) {
	text, err := compact(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	t := newTree(text)
	if t.deepest > MaxDepth {
		return nil, fmt.Errorf("%w: it is nested deeper than %d", ErrNotJSON, MaxDepth)
	}
	return &Document{text, t.sum()}, nil
}

// compact checks a document and takes out the white space between its tokens.
// It escapes U+2028 and U+2029, which end a line for some readers of event
// streams; inside of JSON they can only be in strings.
func compact(doc []byte) ([]byte, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("it is not valid UTF-8")
	}
	text, err := compactTokens(doc)
	if err != nil {
		return nil, err
	}
	text = bytes.ReplaceAll(text, []byte("\u2028"), []byte(`\u2028`))
	text = bytes.ReplaceAll(text, []byte("\u2029"), []byte(`\u2029`))
	if len(text) > math.MaxInt32 {
		return nil, errors.New("it is longer than 2 GiB")
	}
	return text, nil
}

// Bytes is the document without white space between its tokens, and otherwise
// as it came, but for U+2028 and U+2029, which are escaped. It must not be
// changed.
func (d *Document) Bytes() []byte { return d.text }

// Equal tells whether two documents are the same as JSON. It compares digests
// of 128 bits under a key that is this process's own.
func (d *Document) Equal(other *Document) bool { return d.sum == other.sum }

// Snapshot is the whole document: an unnamed event.
func (d *Document) Snapshot() event.Event { return event.Event{Data: d.text} }
