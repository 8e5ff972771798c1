// Package body reads what a request carries, as far as it is bounded.
package body

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Read reads the whole body, up to maxBytes, and puts it back. A longer one is
// refused with 413, one that doesn't come whole with 400 or 408. w may be nil;
// else it is told to close a connection whose body is too large to be read.
func Read(w http.ResponseWriter, r *http.Request, maxBytes int64) ([]byte, *refusal.Error) {
	if r.ContentLength > maxBytes {
		return nil, tooLarge(maxBytes)
	}
	if r.Body == nil {
		return nil, nil
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		return nil, brokenOff(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	return content, nil
}

// BrokenOff is the kind of refusals of bodies that don't come whole.
const BrokenOff = "broken_off"

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
	refused.Kind = BrokenOff
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		refused = refusal.Newf(http.StatusRequestTimeout, "the body took too long to come")
	}
	refused.Err = err
	return refused
}

// IsEarly tells whether a request came as TLS early data, here or at a proxy in
// front, which who has caught it can send again (RFC 8470). It may have an
// effect only if one that is sent again has none.
func IsEarly(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete || r.Header.Get("Early-Data") == "1"
}

// TooEarly is the refusal by which the client sends it again, safely.
func TooEarly() *refusal.Error {
	return refusal.Newf(http.StatusTooEarly, "send it again when the TLS handshake is complete")
}
