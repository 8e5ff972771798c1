package webhook

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// readBody reads the whole body, up to maxBytes, and puts it back.
func readBody(w http.ResponseWriter, r *http.Request, maxBytes int64) ([]byte, *refusal.Error) {
	if r.ContentLength > maxBytes {
		return nil, tooLarge(maxBytes)
	}
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		return nil, brokenOff(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

func tooLarge(maxBytes int64) *refusal.Error {
	return refusal.Newf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBytes)
}

// brokenOff tells why a body couldn't be read. The bound may be another
// handler's, such as request_body's.
func brokenOff(err error) *refusal.Error {
	var bound *http.MaxBytesError
	if errors.As(err, &bound) {
		return tooLarge(bound.Limit)
	}
	refused := refusal.Newf(http.StatusBadRequest, "the body broke off")
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		refused = refusal.Newf(http.StatusRequestTimeout, "the body took too long to come")
	}
	refused.Err = err
	return refused
}

// isTextType tells whether a body of this content type has to be text. A body
// that says nothing of its type has to be, too.
func isTextType(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil { // a bad parameter doesn't hide the type
		mediaType, _, _ = strings.Cut(strings.ToLower(contentType), ";")
		mediaType = strings.TrimSpace(mediaType)
	}
	switch mediaType {
	case "", "application/json", "application/xml", formType:
		return true
	}
	return strings.HasPrefix(mediaType, "text/") ||
		strings.HasSuffix(mediaType, "+json") || strings.HasSuffix(mediaType, "+xml")
}

const formType = "application/x-www-form-urlencoded"
