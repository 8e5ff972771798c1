package webhook

import (
	"bytes"
	"compress/gzip"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// decoded is what the body holds, under its content coding (RFC 9110 §8.4). It
// is as bounded as the body: a few bytes may unfold to any number.
func decoded(r *http.Request, body []byte, maxBytes int64) ([]byte, *refusal.Error) {
	switch coding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ","))); coding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
	default:
		return nil, refusal.Newf(http.StatusUnsupportedMediaType, "the body's Content-Encoding is neither gzip nor identity")
	}
	unzip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, notGzip(err)
	}
	content, err := io.ReadAll(io.LimitReader(unzip, maxBytes+1))
	switch {
	case err != nil:
		return nil, notGzip(err)
	case int64(len(content)) > maxBytes:
		return nil, refusal.Newf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes when it is unzipped", maxBytes)
	}
	return content, nil
}

func notGzip(err error) *refusal.Error {
	refused := refusal.Newf(http.StatusBadRequest, "the body isn't gzip, which its Content-Encoding says")
	refused.Err = err
	return refused
}

const (
	formType       = "application/x-www-form-urlencoded"
	cloudEventType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
)

// mediaType is the type without its parameters, in lower case.
func mediaType(contentType string) string {
	name, _, err := mime.ParseMediaType(contentType)
	if err != nil { // a bad parameter doesn't hide the type
		name, _, _ = strings.Cut(strings.ToLower(contentType), ";")
		name = strings.TrimSpace(name)
	}
	return name
}

// isTextType tells whether a body of this content type has to be text. A body
// that says nothing of its type has to be, too.
func isTextType(contentType string) bool {
	name := mediaType(contentType)
	switch name {
	case "", "application/json", "application/xml", formType:
		return true
	}
	return isLines(name) || strings.HasPrefix(name, "text/") ||
		strings.HasSuffix(name, "+json") || strings.HasSuffix(name, "+xml")
}

// isJSONType tells whether a body of this content type is one JSON document.
func isJSONType(contentType string) bool {
	name := mediaType(contentType)
	return name == "application/json" || name == "text/json" || strings.HasSuffix(name, "+json")
}

// isLines tells whether a body of this media type is a JSON document per line.
func isLines(name string) bool {
	switch name {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
		"application/jsonlines", "application/x-jsonlines":
		return true
	}
	return false
}
