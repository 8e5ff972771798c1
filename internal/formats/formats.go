// Package formats decodes streamed responses into events as their bytes come:
// event streams, lines of JSON or of text, JSON text sequences, JSON arrays, and
// multipart/x-mixed-replace.
//
// A [Decoder] yields the same events however the bytes are split. It keeps at most
// one event, whose size is limited.
package formats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"

	"github.com/caddy-sse/caddy-sse/event"
)

// Format is the format of a streamed response.
type Format string

// The formats.
const (
	SSE       Format = "sse"       // text/event-stream (HTML standard, "Server-sent events")
	NDJSON    Format = "ndjson"    // one JSON text per line
	JSONSeq   Format = "json-seq"  // JSON text sequences (RFC 7464)
	JSONArray Format = "json"      // the elements of one JSON array
	Multipart Format = "multipart" // multipart/x-mixed-replace
	Lines     Format = "lines"     // lines of text
)

// All lists all formats.
var All = []Format{SSE, NDJSON, JSONSeq, JSONArray, Multipart, Lines}

var (
	// ErrTooLarge means that one event exceeds the decoder's maximum.
	ErrTooLarge = errors.New("an event of the response is too large")
	// ErrSyntax means that the bytes are not of the format.
	ErrSyntax = errors.New("the response breaks its format")
	// ErrUnfinished means that the response ends in the middle of an event, or
	// before the end that its format has.
	ErrUnfinished = errors.New("the response ends too early")
)

// Decoder decodes one response. It is not safe for concurrent use.
type Decoder interface {
	// Decode appends to dst the events that p completes. The events don't refer
	// to p. After an error, with which it may still return events, the decoder
	// must not be used.
	Decode(dst []event.Event, p []byte) ([]event.Event, error)

	// End appends the event that the end of the response completes, if there is
	// one. It fails with [ErrUnfinished], or with [ErrSyntax].
	End(dst []event.Event) ([]event.Event, error)
}

// Of returns the format of a Content-Type; empty if it has none.
func Of(contentType string) Format {
	t, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return ""
	case t == "multipart/x-mixed-replace" && params["boundary"] != "":
		return Multipart
	case byType[t] != "":
		return byType[t]
	case strings.HasSuffix(t, "+json-seq"):
		return JSONSeq
	case strings.HasSuffix(t, "+json"):
		return JSONArray
	default:
		return ""
	}
}

var byType = map[string]Format{
	"text/event-stream":         SSE,
	"application/x-ndjson":      NDJSON,
	"application/ndjson":        NDJSON,
	"application/jsonl":         NDJSON,
	"application/x-jsonl":       NDJSON,
	"application/jsonlines":     NDJSON,
	"application/x-jsonlines":   NDJSON,
	"application/json-lines":    NDJSON,
	"application/stream+json":   NDJSON,
	"application/x-json-stream": NDJSON,
	"application/json-seq":      JSONSeq,
	"application/json":          JSONArray,
	"text/plain":                Lines,
}

// New returns a decoder of a response of a format. No event may have more than
// maxEvent bytes. New fails with [ErrSyntax] if the Content-Type of a multipart
// response has no boundary.
func New(f Format, contentType string, maxEvent int) (Decoder, error) {
	switch f {
	case SSE:
		return NewSSE(maxEvent, ""), nil
	case NDJSON, Lines:
		return &lines{max: maxEvent, isJSON: f == NDJSON}, nil
	case JSONSeq:
		return &jsonSeq{element: element{max: maxEvent}}, nil
	case JSONArray:
		return &jsonArray{element: element{max: maxEvent}}, nil
	case Multipart:
		_, params, _ := mime.ParseMediaType(contentType)
		if params["boundary"] == "" {
			return nil, fmt.Errorf("%w: the Content-Type has no boundary", ErrSyntax)
		}
		return newMultipart(params["boundary"], maxEvent), nil
	default:
		return nil, fmt.Errorf("%w: there is no format %q", ErrSyntax, f)
	}
}

// Opening finds the first byte of a JSON text after white space and a byte order
// mark. It reads each byte once, however the text is split.
type Opening struct {
	marks int  // the bytes of a byte order mark that have come
	begun bool // no byte order mark may come any more
}

// IsArray reads the next bytes of a text that may be an array. If they have the first
// byte that decides, known is true, and rest begins with it; rest is empty if that
// byte came earlier, as a part of what is no byte order mark.
func (o *Opening) IsArray(p []byte) (array, known bool, rest []byte) {
	for i, c := range p {
		switch {
		case !o.begun && c == bom[o.marks]:
			o.marks++
			o.begun = o.marks == len(bom)
		case !o.begun && o.marks > 0:
			return false, true, nil
		case bytes.IndexByte([]byte(whitespace), c) >= 0:
			o.begun = true
		default:
			return c == '[', true, p[i:]
		}
	}
	return false, false, nil
}

// whitespace is that of JSON (RFC 8259 §2).
const whitespace = " \t\r\n"

var bom = []byte("\ufeff")

// compact returns a JSON text without white space. It fails with [ErrSyntax].
func compact(text []byte) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, len(text)))
	if err := json.Compact(out, text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return validUTF8(out.Bytes()), nil
}

// validUTF8 returns p as a copy in which U+FFFD replaces what is not UTF-8, as
// browsers do (Encoding standard, "UTF-8 decoder").
func validUTF8(p []byte) []byte {
	if utf8.Valid(p) {
		return bytes.Clone(p)
	}
	text, _ := unicode.UTF8.NewDecoder().Bytes(p) // it replaces, and doesn't fail
	return text
}
