package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/charset"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// parser parses a body into messages.
type parser func(content []byte) ([]hub.Message, *refusal.Error)

// parserOf returns the parser of a Content-Type. Text has at most maxBytes in UTF-8.
func parserOf(h http.Header, maxBytes int64) (parser, *refusal.Error) {
	if coding := strings.ToLower(h.Get("Content-Encoding")); coding != "" && coding != "identity" {
		return nil, refusal.Newf(http.StatusUnsupportedMediaType, "a body with Content-Encoding is not accepted: send it without")
	}
	mediaType, params, _ := mime.ParseMediaType(h.Get("Content-Type"))
	declared := params["charset"]
	switch mediaType {
	case "application/json":
		return converted(charset.ReadText, declared, maxBytes, parseJSON), nil
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return converted(charset.ReadText, declared, maxBytes, parseLines), nil
	case "application/x-www-form-urlencoded":
		return converted(charset.ReadForm, declared, maxBytes, parseForm), nil
	}
	return nil, refusal.Newf(http.StatusUnsupportedMediaType,
		"the Content-Type is not accepted: send application/json, application/x-ndjson or application/x-www-form-urlencoded")
}

// converted returns a parser for a body in the charset that its type declares.
func converted(read func([]byte, string, int64) ([]byte, *refusal.Error), declared string, maxBytes int64, parse parser) parser {
	return func(content []byte) ([]hub.Message, *refusal.Error) {
		text, refused := read(content, declared, maxBytes)
		if refused != nil {
			return nil, refused
		}
		return parse(text)
	}
}

func unprocessable(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusUnprocessableEntity, format, args...)
}

func badRequest(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusBadRequest, format, args...)
}

// byteOrderMark begins texts of some programs. RFC 8259 §8.1 lets a parser ignore it.
var byteOrderMark = []byte("\ufeff")

// parseJSON parses an object or a list of objects.
func parseJSON(content []byte) ([]hub.Message, *refusal.Error) {
	content = bytes.TrimPrefix(content, byteOrderMark)
	if !utf8.Valid(content) {
		return nil, badRequest("the body is not UTF-8")
	}
	if !json.Valid(content) {
		return nil, badRequest("the body isn't JSON")
	}
	objects := []json.RawMessage{content}
	if bytes.HasPrefix(bytes.TrimLeft(content, " \t\r\n"), []byte("[")) {
		if err := json.Unmarshal(content, &objects); err != nil { // unreachable: it is valid JSON
			return nil, badRequest("the body isn't a list")
		}
	}
	return parseObjects(objects)
}

// parseLines parses an object on each line. It skips empty lines.
func parseLines(content []byte) ([]hub.Message, *refusal.Error) {
	if !utf8.Valid(content) {
		return nil, badRequest("the body is not UTF-8")
	}
	content = bytes.TrimPrefix(content, byteOrderMark)
	var objects []json.RawMessage
	number := 0
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if !json.Valid(line) {
			return nil, badRequest("line %d isn't JSON", number)
		}
		if objects = append(objects, line); len(objects) > MaxEvents {
			break
		}
	}
	return parseObjects(objects)
}

// parseObjects parses each object into a message.
func parseObjects(objects []json.RawMessage) ([]hub.Message, *refusal.Error) {
	switch {
	case len(objects) == 0:
		return nil, unprocessable(`there is no event: send at least one, such as {"topic": "news", "data": "hello"}`)
	case len(objects) > MaxEvents:
		return nil, unprocessable("there are more than %d events: send them in several requests", MaxEvents)
	}
	messages := make([]hub.Message, len(objects))
	for i, object := range objects {
		var refused *refusal.Error
		if messages[i], refused = parseObject(object); refused != nil {
			if len(objects) > 1 {
				refused.Reason = fmt.Sprintf("event %d of %d: %s", i+1, len(objects), refused.Reason)
			}
			return nil, refused
		}
	}
	return messages, nil
}

// eventFields are the names of the members of an object, and of the fields of a
// form.
var eventFields = []string{"topic", "event", "id", "data"}

// checkFields refuses unknown names, which are misspelt ones mostly.
func checkFields[T any](fields map[string]T, what string) *refusal.Error {
	for name := range fields {
		if !slices.Contains(eventFields, name) {
			return unprocessable("%s %q is unknown: want %s", what, refusal.Shorten(name, maxQuoted), strings.Join(eventFields, ", "))
		}
	}
	return nil
}

// maxQuoted limits the bytes of a client's text in a reason.
const maxQuoted = 40

func parseObject(object json.RawMessage) (hub.Message, *refusal.Error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil || fields == nil {
		return hub.Message{}, unprocessable(`it is not an object: send {"topic": …, "data": …}`)
	}
	if refused := checkFields(fields, "member"); refused != nil {
		return hub.Message{}, refused
	}
	var m hub.Message
	topics, refused := parseTopics(fields["topic"])
	if refused != nil {
		return m, refused
	}
	for name, dst := range map[string]*string{"event": &m.Event.Name, "id": &m.Event.ID} {
		if raw := fields[name]; raw != nil && json.Unmarshal(raw, dst) != nil {
			return m, unprocessable("%s is not a string", name)
		}
	}
	data, ok := fields["data"]
	if !ok {
		return m, noData()
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil { // unreachable: it is valid JSON
		return m, badRequest("data isn't JSON")
	}
	m.Event.Data = compact.Bytes()
	return withTopics(m, topics)
}

func noData() *refusal.Error {
	return unprocessable("the event has no data: send `null`, or `data=` in a form, if it needs none")
}

// parseTopics parses a string or a list of strings.
func parseTopics(raw json.RawMessage) (topics []string, refused *refusal.Error) {
	if raw == nil {
		return nil, nil
	}
	if json.Unmarshal(raw, &topics) == nil {
		return topics, nil
	}
	topics = make([]string, 1)
	if json.Unmarshal(raw, &topics[0]) != nil {
		return nil, unprocessable("topic is neither a string nor a list of strings")
	}
	return topics, nil
}

// parseForm parses one event. Its topic may come several times.
func parseForm(content []byte) ([]hub.Message, *refusal.Error) {
	if start := bytes.TrimLeft(content, " \t\r\n"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return nil, refusal.Newf(http.StatusUnsupportedMediaType,
			"the body looks like JSON, but its Content-Type is a form: send it with `Content-Type: application/json` (curl: --json)")
	}
	form, err := url.ParseQuery(string(content))
	if err != nil {
		return nil, badRequest("the body isn't a form (application/x-www-form-urlencoded)")
	}
	if refused := checkFields(form, "field"); refused != nil {
		return nil, refused
	}
	for _, name := range []string{"event", "id", "data"} {
		if len(form[name]) > 1 {
			return nil, unprocessable("%s comes more than once in the form", name)
		}
	}
	if !form.Has("data") {
		return nil, noData()
	}
	m, refused := withTopics(hub.Message{Event: event.Event{
		ID: form.Get("id"), Name: form.Get("event"), Data: []byte(form.Get("data")),
	}}, form["topic"])
	return []hub.Message{m}, refused
}

// maxTopics limits the topics of an event.
const maxTopics = 100

// withTopics returns the message with its topics, each once. It refuses a message
// that the hub can't publish.
func withTopics(m hub.Message, topics []string) (hub.Message, *refusal.Error) {
	switch {
	case len(topics) == 0:
		return m, unprocessable("the event has no topic: send the topic on which to publish it")
	case len(topics) > maxTopics:
		return m, unprocessable("the event has %d topics: send at most %d", len(topics), maxTopics)
	}
	for _, topic := range topics {
		if err := hub.CheckTopic(topic); err != nil {
			return m, unprocessable("%v", err)
		}
		if !slices.Contains(m.Topics, topic) {
			m.Topics = append(m.Topics, topic)
		}
	}
	if m.Event.Name != "" {
		if err := event.CheckName(m.Event.Name); err != nil {
			return m, unprocessable("%v", err)
		}
	}
	if m.Event.ID != "" {
		if err := event.CheckID(m.Event.ID); err != nil {
			return m, unprocessable("%v", err)
		}
	}
	if !utf8.Valid(m.Event.Data) {
		return m, badRequest("data is not UTF-8")
	}
	return m, nil
}
