package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

const (
	// maxFields limits the fields of a form whose nested names are parsed.
	maxFields = 10_000
	// maxFieldDepth limits the nesting of their names.
	maxFieldDepth = 32
)

// formToJSON makes a JSON object of a form. It nests names as PHP and Rails do:
// a[b] is a field of a, and a[] is one more item of a. Of a name that comes
// twice the last value counts. Its errors are for the sender.
func formToJSON(body string) ([]byte, error) {
	root := make(map[string]any)
	fields := 0
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&") // in order: url.ParseQuery loses it
		if pair == "" {
			continue
		}
		if fields++; fields > maxFields {
			return nil, fmt.Errorf("the form has more than %d fields", maxFields)
		}
		if err := setField(root, pair); err != nil {
			return nil, err
		}
	}
	return json.Marshal(root)
}

var errNoForm = errors.New("the body isn't a form (" + formType + ")")

// payloadField is the field of a form in which some senders send their JSON.
const payloadField = "payload"

// payloadOf returns the JSON that a sender has put into a form. It returns false if
// the content is no form, or has other fields, too.
func payloadOf(c *content) (string, bool) {
	if !c.media.isForm() || c.isJSON() {
		return "", false
	}
	form, err := c.form()
	if err != nil || len(form) != 1 || len(form[payloadField]) != 1 {
		return "", false
	}
	return form[payloadField][0], true
}

// unwrapPayload replaces a form by the JSON in it.
func (r *request) unwrapPayload() *refusal.Error {
	payload, ok := payloadOf(r.content)
	if !ok {
		return nil
	}
	r.content = newContent([]byte(payload), jsonType)
	if len(r.content.body) == 0 || !r.content.isJSON() {
		return refusal.Newf(http.StatusBadRequest, "the form's field %q isn't JSON", payloadField)
	}
	return nil
}

// parsePair returns a field of a form.
func parsePair(pair string) (name, value string, err error) {
	rawName, rawValue, _ := strings.Cut(pair, "=")
	name, nameErr := url.QueryUnescape(rawName)
	value, valueErr := url.QueryUnescape(rawValue)
	if nameErr != nil || valueErr != nil || strings.Contains(pair, ";") {
		return "", "", errNoForm
	}
	return name, value, nil
}

func setField(root map[string]any, pair string) error {
	name, value, err := parsePair(pair)
	if err != nil {
		return err
	}
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return errors.New("the form's text is not UTF-8")
	}
	path := splitName(name)
	if len(path) > maxFieldDepth {
		return fmt.Errorf("a name in the form is nested more than %d deep", maxFieldDepth)
	}
	set, err := put(root[path[0]], path[1:], value)
	if err != nil {
		return fmt.Errorf("the form has %q both as text and with fields or items", oneLine(path[0]))
	}
	root[path[0]] = set
	return nil
}

// splitName splits a[b][] into a, b and an empty name. It doesn't split a name
// whose brackets don't match.
func splitName(name string) []string {
	first, rest, ok := strings.Cut(name, "[")
	if !ok || first == "" || !strings.HasSuffix(rest, "]") {
		return []string{name}
	}
	path := append([]string{first}, strings.Split(strings.TrimSuffix(rest, "]"), "][")...)
	for _, part := range path[1:] {
		if strings.ContainsAny(part, "[]") {
			return []string{name}
		}
	}
	return path
}

var errMixed = errors.New("text, fields and items are mixed")

// put sets a value at a path below old and returns what replaces old.
func put(old any, path []string, value string) (any, error) {
	switch {
	case len(path) == 0:
		if _, isText := old.(string); old != nil && !isText {
			return nil, errMixed
		}
		return value, nil
	case path[0] == "":
		items, ok := old.([]any)
		if old != nil && !ok {
			return nil, errMixed
		}
		return putItem(items, path[1:], value)
	}
	fields, ok := old.(map[string]any)
	if old != nil && !ok {
		return nil, errMixed
	}
	if fields == nil {
		fields = make(map[string]any)
	}
	set, err := put(fields[path[0]], path[1:], value)
	fields[path[0]] = set
	return fields, err
}

// putItem adds an item. It makes one item with two fields of a[][b]=1&a[][c]=2.
func putItem(items []any, path []string, value string) (any, error) {
	if len(items) > 0 && len(path) > 0 && path[0] != "" {
		last, ok := items[len(items)-1].(map[string]any)
		if _, has := last[path[0]]; ok && !has {
			_, err := put(last, path, value)
			return items, err
		}
	}
	item, err := put(nil, path, value)
	return append(items, item), err
}
