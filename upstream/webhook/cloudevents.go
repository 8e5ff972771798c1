package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// readCloudEvents replaces the content by its CloudEvents, if it has any. A
// request carries them in one of three ways (CloudEvents 1.0, "HTTP Protocol
// Binding"): the mapper sees each of them as JSON ("JSON Event Format").
func (r *request) readCloudEvents() (refused *refusal.Error) {
	event := r.content.body
	switch {
	case r.media.name == cloudEventType:
		refused = checkCloudEvents(event, false)
	case r.media.name == batchType:
		r.isBatch = true
		refused = checkCloudEvents(event, true)
	case r.Header.Get("Ce-Specversion") == "":
		return nil
	default:
		event, refused = r.binaryCloudEvent()
	}
	if refused == nil {
		r.content = newContent(event, mediaType{header: cloudEventType, name: cloudEventType})
	}
	return refused
}

func badCloudEvent(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusBadRequest, format, args...)
}

// refuseEventGrid refuses requests in the schema that Azure Event Grid had before
// CloudEvents. Its handshake is another one, so that without a word Event Grid
// would only show that the validation has failed.
func (wh *Webhook) refuseEventGrid(r *request) *refusal.Error {
	kind := r.Header.Get("Aeg-Event-Type")
	isCloudEvent := strings.HasPrefix(r.media.name, "application/cloudevents") || r.Header.Get("Ce-Specversion") != ""
	switch {
	case !wh.verifier.cloudEvents || kind == "" || isCloudEvent:
		return nil
	case kind != "SubscriptionValidation" && wh.Verify.Sender != "cloudevents":
		return nil
	}
	refused := badCloudEvent("this is Azure Event Grid's own schema: choose the event schema \"Cloud Event Schema v1.0\" for the subscription")
	refused.Kind = string(BadHandshake)
	return refused
}

// requiredAttributes are those that every CloudEvent has.
var requiredAttributes = []string{"id", "source", "specversion", "type"}

func checkCloudEvents(body []byte, isBatch bool) *refusal.Error {
	var events []map[string]any
	if !isBatch {
		events = make([]map[string]any, 1)
		if json.Unmarshal(body, &events[0]) != nil || events[0] == nil {
			return badCloudEvent("the body is not a CloudEvent in JSON")
		}
	} else if json.Unmarshal(body, &events) != nil || events == nil {
		return badCloudEvent("the body is not a list of CloudEvents in JSON")
	}
	for _, event := range events {
		if refused := checkAttributes(event); refused != nil {
			return refused
		}
	}
	return nil
}

// checkAttributes also refuses a source with a space. A source is a URI
// reference, which has no spaces, and the delivery's ID is the source, a space
// and the event's id.
func checkAttributes(event map[string]any) *refusal.Error {
	for _, name := range requiredAttributes {
		if text, _ := event[name].(string); text == "" {
			return badCloudEvent("a CloudEvent has no %q", name)
		}
	}
	if strings.Contains(event["source"].(string), " ") {
		return badCloudEvent("a CloudEvent's source has a space in it, so it is not a URI reference: write %%20")
	}
	return nil
}

// attributeName matches names of attributes (CloudEvents 1.0, "Naming
// Conventions"). The specification recommends at most 20 characters.
var attributeName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// binaryCloudEvent reads an event whose attributes are in headers and whose data
// is the body.
func (r *request) binaryCloudEvent() ([]byte, *refusal.Error) {
	event := make(map[string]any)
	for name, values := range r.Header {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok || !attributeName.MatchString(attribute) || attribute == "data" || attribute == "datacontenttype" {
			continue
		}
		text := attributeValue(values[0])
		if len(values) > 1 || !utf8.ValidString(text) {
			return nil, badCloudEvent("header ce-%s comes more than once or is malformed", attribute)
		}
		event[attribute] = text
	}
	for _, name := range requiredAttributes {
		if event[name] == nil || event[name] == "" {
			return nil, badCloudEvent("the CloudEvent has no header ce-%s", name)
		}
	}
	if refused := checkAttributes(event); refused != nil {
		return nil, refused
	}
	if refused := r.setData(event); refused != nil {
		return nil, refused
	}
	encoded, err := json.Marshal(event)
	if err != nil {
		return nil, badCloudEvent("the CloudEvent can't be written as JSON")
	}
	return encoded, nil
}

// attributeValue decodes a header as the HTTP protocol binding says (section
// 3.1.3.2): it unescapes quoted strings, and then percent signs, once. The SDKs
// send both, and percent signs that encode nothing, which stand for themselves.
func attributeValue(header string) string {
	var text []byte
	for header != "" {
		plain, quoted, found := strings.Cut(header, `"`)
		text = append(text, plain...)
		if !found {
			break
		}
		content, rest, closed := unquote(quoted)
		if !closed { // the quotation mark stands for itself
			text = append(append(text, '"'), quoted...)
			break
		}
		text, header = append(text, content...), rest
	}
	return percentDecode(text)
}

// unquote returns what a quoted string (RFC 9110 §5.6.4) holds after its first
// quotation mark, and what follows it. It returns false if the string has no end.
func unquote(s string) (content []byte, rest string, closed bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return content, s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		content = append(content, s[i])
	}
	return nil, "", false
}

// percentDecode decodes each percent sign before two hexadecimal digits.
func percentDecode(text []byte) string {
	decoded := text[:0]
	for i := 0; i < len(text); i++ {
		var octet [1]byte
		if text[i] == '%' && i+2 < len(text) {
			if _, err := hex.Decode(octet[:], text[i+1:i+3]); err == nil {
				decoded = append(decoded, octet[0])
				i += 2
				continue
			}
		}
		decoded = append(decoded, text[i])
	}
	return string(decoded)
}

// setData sets the event's data to the content of a binary CloudEvent.
func (r *request) setData(event map[string]any) *refusal.Error {
	media, body := r.media, r.content.body
	if media.header != "" && utf8.ValidString(media.header) {
		event["datacontenttype"] = media.header
	}
	switch {
	case len(body) == 0:
	case media.isJSON(), media.header == "" && r.content.isJSON():
		if !r.content.isJSON() || !utf8.Valid(body) {
			return badCloudEvent("the CloudEvent's data isn't JSON")
		}
		event["data"] = json.RawMessage(body)
	case utf8.Valid(body):
		event["data"] = string(body)
	case media.isText():
		return notUTF8()
	default:
		event["data_base64"] = base64.StdEncoding.EncodeToString(body)
	}
	return nil
}
