package webhook

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// redacted returns the content without the members of these names, at any
// depth. It removes white space and changes nothing else.
func (c *content) redacted(names []string) *content {
	switch {
	case len(names) == 0:
		return c
	case c.isJSON():
		return newContent(redactJSON(c.body, names), c.media)
	case c.media.isForm():
		return newContent(redactForm(string(c.body), names), c.media)
	}
	return c
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

// redactForm removes fields from a form, and members from the JSON objects in
// its other fields.
func redactForm(form string, names []string) []byte {
	var pairs []string
	for pair := range strings.SplitSeq(form, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, _ := url.QueryUnescape(rawName)
		if slices.Contains(names, name) {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err == nil && strings.HasPrefix(value, "{") && json.Valid([]byte(value)) {
			pair = rawName + "=" + url.QueryEscape(string(redactJSON([]byte(value), names)))
		}
		pairs = append(pairs, pair)
	}
	return []byte(strings.Join(pairs, "&"))
}
