package webhook

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// A CloudEvent comes in one of three ways (CloudEvents 1.0, "HTTP Protocol
// Binding"), and is seen as JSON (its "JSON Event Format") in each of them.

// cloudEvent is the JSON of a request that holds CloudEvents, and whether that
// is a batch of them; nil if the request holds none.
func cloudEvent(r *http.Request, body []byte) (event []byte, batch bool, refused *refusal.Error) {
	switch mediaType(r.Header.Get("Content-Type")) {
	case cloudEventType:
		return body, false, checkCloudEvents(body, false)
	case batchType:
		return body, true, checkCloudEvents(body, true)
	}
	if r.Header.Get("Ce-Specversion") == "" {
		return nil, false, nil
	}
	event, refused = binaryCloudEvent(r.Header, body)
	return event, false, refused
}

func badCloudEvent(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusBadRequest, format, args...)
}

// attributes are those that every CloudEvent has.
var attributes = []string{"id", "source", "specversion", "type"}

func checkCloudEvents(body []byte, batch bool) *refusal.Error {
	var events []map[string]any
	if !batch {
		events = make([]map[string]any, 1)
		if json.Unmarshal(body, &events[0]) != nil || events[0] == nil {
			return badCloudEvent("the body is no CloudEvent in JSON")
		}
	} else if json.Unmarshal(body, &events) != nil || events == nil {
		return badCloudEvent("the body is no list of CloudEvents in JSON")
	}
	for _, event := range events {
		if refused := checkAttributes(event); refused != nil {
			return refused
		}
	}
	return nil
}

// checkAttributes refuses a source with a space, too: it is a URI reference,
// which has none, and what tells an event from all others is its source, a space
// and its id.
func checkAttributes(event map[string]any) *refusal.Error {
	for _, name := range attributes {
		if text, _ := event[name].(string); text == "" {
			return badCloudEvent("a CloudEvent has no %q", name)
		}
	}
	if strings.Contains(event["source"].(string), " ") {
		return badCloudEvent("a CloudEvent's source has a space in it, and is no URI reference: write %%20")
	}
	return nil
}

// attributeName is what an attribute may be called (CloudEvents 1.0, "Naming
// Conventions"), with a bound that they only recommend to be 20.
var attributeName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// binaryCloudEvent has its attributes in headers and its data in the body.
func binaryCloudEvent(header http.Header, body []byte) ([]byte, *refusal.Error) {
	event := make(map[string]any)
	for name, values := range header {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok || !attributeName.MatchString(attribute) || attribute == "data" || attribute == "datacontenttype" {
			continue
		}
		// Section 3.1.3.2: what isn't printable ASCII is percent-encoded.
		text, err := url.PathUnescape(values[0])
		if len(values) > 1 || err != nil || !utf8.ValidString(text) {
			return nil, badCloudEvent("header ce-%s comes more than once or is malformed", attribute)
		}
		event[attribute] = text
	}
	for _, name := range attributes {
		if event[name] == nil || event[name] == "" {
			return nil, badCloudEvent("the CloudEvent has no header ce-%s", name)
		}
	}
	if refused := checkAttributes(event); refused != nil {
		return nil, refused
	}
	if refused := setData(event, header.Get("Content-Type"), body); refused != nil {
		return nil, refused
	}
	encoded, err := json.Marshal(event)
	if err != nil {
		return nil, badCloudEvent("the CloudEvent can't be written as JSON")
	}
	return encoded, nil
}

func setData(event map[string]any, contentType string, body []byte) *refusal.Error {
	if contentType != "" && utf8.ValidString(contentType) {
		event["datacontenttype"] = contentType
	}
	switch {
	case len(body) == 0:
	case isJSONType(contentType), contentType == "" && json.Valid(body):
		if !json.Valid(body) || !utf8.Valid(body) {
			return badCloudEvent("the CloudEvent's data isn't JSON")
		}
		event["data"] = json.RawMessage(body)
	case utf8.Valid(body):
		event["data"] = string(body)
	case isTextType(contentType):
		return notUTF8()
	default:
		event["data_base64"] = base64.StdEncoding.EncodeToString(body)
	}
	return nil
}
