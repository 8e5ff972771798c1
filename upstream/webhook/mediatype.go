package webhook

import (
	"mime"
	"strings"
)

const (
	formType       = "application/x-www-form-urlencoded"
	cloudEventType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	multipartType  = "multipart/form-data"
)

// mediaType is a parsed Content-Type (RFC 9110 §8.3).
type mediaType struct {
	// header is the original value, with its parameters.
	header string
	// name is the type and subtype in lower case. It is empty if there is none.
	name string
	// charset is the one that the header declares. It is empty if there is none.
	charset string
}

var jsonType = mediaType{header: "application/json", name: "application/json"}

func parseMediaType(header string) mediaType {
	name, params, err := mime.ParseMediaType(header)
	if err != nil { // a malformed parameter doesn't hide the type
		name, _, _ = strings.Cut(strings.ToLower(header), ";")
		name = strings.TrimSpace(name)
	}
	return mediaType{header, name, params["charset"]}
}

// isText reports whether the content has to be text. That includes content
// without a type.
func (m mediaType) isText() bool {
	switch m.name {
	case "", "application/json", "application/xml", formType:
		return true
	}
	return m.isJSONLines() || strings.HasPrefix(m.name, "text/") ||
		strings.HasSuffix(m.name, "+json") || strings.HasSuffix(m.name, "+xml")
}

// isJSON reports whether the content is one JSON document.
func (m mediaType) isJSON() bool {
	return m.name == "application/json" || m.name == "text/json" || strings.HasSuffix(m.name, "+json")
}

// isJSONLines reports whether the content is a JSON document on each line.
func (m mediaType) isJSONLines() bool {
	switch m.name {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
		"application/jsonlines", "application/x-jsonlines":
		return true
	}
	return false
}

func (m mediaType) isForm() bool { return m.name == formType }
