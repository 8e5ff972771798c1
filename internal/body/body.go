// Package body reads the bodies of requests up to a limit.
package body

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Read reads the whole body, up to maxBytes, and puts it back. It refuses a larger
// body with 413, an incomplete one with 400 and a late one with 408. If w isn't
// nil, Read has it close the connection after a body that is too large.
func Read(w http.ResponseWriter, r *http.Request, maxBytes int64) ([]byte, *refusal.Error) {
	return ReadWithin(nil, w, r, maxBytes)
}

// ReadWithin reads a body as [Read] does. It refuses a body for which the budget
// has no room with 503. The caller releases the hold when it no longer needs the
// body.
func ReadWithin(h *Hold, w http.ResponseWriter, r *http.Request, maxBytes int64) ([]byte, *refusal.Error) {
	if r.ContentLength > maxBytes {
		return nil, tooLarge(maxBytes)
	}
	if r.Body == nil {
		return nil, nil
	}
	content, err := io.ReadAll(h.Reader(http.MaxBytesReader(w, r.Body, maxBytes)))
	if err != nil {
		return nil, brokenOff(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	return content, nil
}

// BrokenOff is the kind of the refusals of incomplete bodies.
const BrokenOff = "broken_off"

func tooLarge(maxBytes int64) *refusal.Error {
	return refusal.Newf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBytes)
}

// brokenOff returns the refusal for a failed read. The limit may be another
// handler's, for example that of request_body.
func brokenOff(err error) *refusal.Error {
	if refused := TooMany(err); refused != nil {
		return refused
	}
	var tooMany *http.MaxBytesError
	if errors.As(err, &tooMany) {
		return tooLarge(tooMany.Limit)
	}
	refused := refusal.Newf(http.StatusBadRequest, "the body broke off")
	refused.Kind = BrokenOff
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		refused = refusal.Newf(http.StatusRequestTimeout, "the body took too long to come")
	}
	refused.Err = err
	return refused
}

// IsEarly reports whether a request came as TLS early data, here or at a proxy in
// front. An attacker can send early data again (RFC 8470). It may have an effect
// only if a repetition has none.
func IsEarly(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || r.Header.Get("Early-Data") == "1"
}

// TooEarly returns the refusal that makes the client send the request again
// after the handshake.
func TooEarly() *refusal.Error {
	return refusal.Newf(http.StatusTooEarly, "send it again when the TLS handshake is complete")
}
