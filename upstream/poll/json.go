package poll

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"

	"github.com/caddy-sse/caddy-sse/internal/charset"
)

// mediaType is a response's Content-Type.
type mediaType struct {
	name    string // in lower case; empty if the response has none
	charset string // empty if the response has none
}

func mediaTypeOf(h http.Header) mediaType {
	value := h.Get("Content-Type")
	name, params, err := mime.ParseMediaType(value)
	if err != nil { // perhaps of a parameter
		name, _, _ = strings.Cut(value, ";")
		name = strings.ToLower(strings.TrimSpace(name))
	}
	return mediaType{name, params["charset"]}
}

// isJSON reports whether each document of the type is one JSON text.
func (t mediaType) isJSON() bool {
	return jsonTypes[t.name] || strings.HasSuffix(t.name, "+json") && !t.isJSONLines() || strings.HasPrefix(t.name, "application/x-amz-json-")
}

var jsonTypes = setOf("application/json", "text/json", "application/x-json", "text/x-json", "application/json-rpc", "application/jsonrequest")

// isJSONLines reports whether documents of the type are sequences of JSON texts,
// of which one may happen to hold a single text.
func (t mediaType) isJSONLines() bool {
	for _, end := range []string{"ndjson", "jsonl", "jsonlines", "json-lines", "json-seq", "json-stream", "/stream+json"} {
		if strings.HasSuffix(t.name, end) {
			return true
		}
	}
	return false
}

// xssiPrefix begins JSON that a page of another site must not read as a script.
const xssiPrefix = ")]}'"

// jsonText is a body that has to be JSON, as text in UTF-8.
type jsonText struct {
	text    []byte
	raw     []byte // the same before bytes that aren't UTF-8 were replaced
	skipped int    // bytes of the body before raw
	charset string // from which the body was converted; empty for UTF-8
}

// decodeJSON reads a body as a browser's response.json() does (WHATWG Encoding,
// "UTF-8 decode"): it drops a byte order mark, and replaces bytes that aren't
// UTF-8. It also converts UTF-16 with a byte order mark and the charset that the
// response declares, and drops an XSSI prefix.
func decodeJSON(body []byte, declared string) jsonText {
	text, from, _ := charset.ToUTF8(body, declared) // of an unknown charset, the text as it is
	raw := bytes.TrimPrefix(text, []byte(charset.MarkUTF8))
	if rest, found := bytes.CutPrefix(raw, []byte(xssiPrefix)); found {
		raw = bytes.TrimPrefix(rest, []byte(","))
	}
	t := jsonText{text: raw, raw: raw, skipped: len(text) - len(raw), charset: from}
	if !utf8.Valid(raw) {
		t.text, _ = unicode.UTF8.NewDecoder().Bytes(raw) // it replaces, and doesn't fail
	}
	return t
}

// documentError is why a successful response isn't a document of the view. The
// log tells each kind once.
type documentError struct {
	kind string
	at   int64 // the first byte that is wrong, counted from 0; -1 if none is known
	err  error
}

// The kinds of documentErrors.
const (
	invalidJSON    = "json"
	unexpectedType = "type"
	failedProgram  = "program" // select or until

	missingDocument = "missing" // 404, with gone_after
)

func (e *documentError) Error() string { return e.err.Error() }
func (e *documentError) Unwrap() error { return e.err }

// invalid returns the error for a body that isn't JSON, given that of the parser.
func (t jsonText) invalid(of mediaType, err error) error {
	var syntax *json.SyntaxError
	if !errors.As(json.Unmarshal(t.raw, new(json.RawMessage)), &syntax) {
		return &documentError{invalidJSON, -1, err}
	}
	at, where, why := int64(t.skipped)+syntax.Offset, "", syntax.Error()
	if t.charset != "" {
		where = " of its text in UTF-8"
	}
	switch {
	case len(bytes.TrimSpace(t.raw)) == 0:
		why = "it is empty"
	case syntax.Offset >= int64(len(t.raw)) && strings.HasPrefix(why, "unexpected end"):
		why = "it breaks off"
	default:
		at-- // Offset counts the wrong byte
	}
	return &documentError{invalidJSON, at, fmt.Errorf("the response %s and no JSON: %s at byte %d%s", of.says(), why, at, where)}
}

// says tells the type to an operator.
func (t mediaType) says() string {
	if t.name == "" {
		return "has no Content-Type"
	}
	return "is " + t.name
}
