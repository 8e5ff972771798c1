package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// redacted returns the content without the members of these names, at any
// depth. It removes white space and changes nothing else. It refuses a body in
// which it can't find them.
func (c *content) redacted(names []string) (*content, *refusal.Error) {
	switch {
	case len(names) == 0 || len(c.body) == 0:
		return c, nil
	case c.isJSON():
		return newContent(redactJSON(c.body, names), c.media), nil
	case !c.media.isForm():
		return nil, refusal.Newf(http.StatusBadRequest, "the body is neither JSON nor a form, so the secrets in it can't be removed")
	}
	form, ok := redactForm(string(c.body), names)
	if !ok {
		return nil, refusal.Newf(http.StatusBadRequest, "%s", errNoForm)
	}
	return newContent(form, c.media), nil
}

// redactJSON removes members from valid JSON.
func redactJSON(document []byte, names []string) []byte {
	const (
		opening = iota // the start of the document, an object or a list
		key
		value
	)
	var out bytes.Buffer
	s := newScanner(document)
	previous := opening
	for {
		token, raw, isKey, err := s.next()
		if err != nil {
			return out.Bytes()
		}
		if name, _ := token.(string); isKey && slices.Contains(names, name) {
			s.skipValue()
			continue
		}
		closes := token == json.Delim('}') || token == json.Delim(']')
		if previous == value && !closes {
			out.WriteByte(',')
		}
		out.Write(raw)
		switch {
		case isKey:
			out.WriteByte(':')
			previous = key
		case token == json.Delim('{') || token == json.Delim('['):
			previous = opening
		default:
			previous = value
		}
	}
}

// redactForm removes fields from a form, and members from the JSON documents in
// its other fields. It returns false if the text isn't a form.
func redactForm(form string, names []string) ([]byte, bool) {
	var pairs []string
	for pair := range strings.SplitSeq(form, "&") {
		name, value, err := parsePair(pair)
		if err != nil {
			return nil, false
		}
		if slices.ContainsFunc(splitName(name), func(part string) bool { return slices.Contains(names, part) }) {
			continue
		}
		if document := strings.TrimPrefix(value, byteOrderMark); json.Valid([]byte(document)) {
			if redacted := redactJSON([]byte(document), names); string(redacted) != document {
				rawName, _, _ := strings.Cut(pair, "=")
				pair = rawName + "=" + url.QueryEscape(string(redacted))
			}
		}
		pairs = append(pairs, pair)
	}
	return []byte(strings.Join(pairs, "&")), true
}
