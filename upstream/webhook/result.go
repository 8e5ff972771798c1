package webhook

import (
	"errors"
	"net/http"

	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Result is the result of a request, for metrics and logs.
type Result string

// The results of requests.
const (
	// Accepted means that the module has published the events, or polls the
	// views.
	Accepted Result = "accepted"
	// Duplicate means that the delivery has come before. The response is the
	// same as the first time.
	Duplicate Result = "duplicate"
	// Dropped means that the rule wants no event of the request.
	Dropped Result = "dropped"
	// Handshake means that the module or the app has answered a handshake.
	Handshake Result = "handshake"

	// BadSignature means that verification has failed, by any method.
	BadSignature Result = "bad_signature"
	// StaleTimestamp means that the signature is right and its time is too far
	// from now.
	StaleTimestamp Result = "stale_timestamp"
	// TooLarge means that the body is larger than allowed.
	TooLarge Result = "too_large"
	// Malformed means that the body is malformed.
	Malformed Result = "malformed"
	// Unmapped means that the request lacks what the rule needs.
	Unmapped Result = "unmapped"
	// BadHandshake means that a handshake lacks what the rule requires.
	BadHandshake Result = "bad_handshake"
	// Early means that the request is TLS early data without an ID.
	Early Result = "early"
	// BrokenOff means that the body didn't come whole, or not in time.
	BrokenOff Result = bodies.BrokenOff
	// Unavailable means that the module can't process the request at present.
	Unavailable Result = "unavailable"
	// NotStored means that the store has failed.
	NotStored Result = "not_stored"
	// AppRefused means that the app has responded to the forwarded request with
	// another status than 2xx.
	AppRefused Result = "app_refused"
)

// Results are all results.
var Results = []Result{
	Accepted, Duplicate, Dropped, Handshake,
	BadSignature, StaleTimestamp, TooLarge, Malformed, Unmapped, BadHandshake, Early, BrokenOff,
	Unavailable, NotStored, AppRefused,
}

// ResultOf returns the result of a refused request.
func ResultOf(err error) Result {
	var refused *refusal.Error
	switch {
	case !errors.As(err, &refused):
		return Unavailable
	case refused.Kind != "":
		return Result(refused.Kind)
	}
	switch refused.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return BadSignature
	case http.StatusRequestEntityTooLarge:
		return TooLarge
	case http.StatusUnprocessableEntity:
		return Unmapped
	case http.StatusTooEarly:
		return Early
	case http.StatusRequestTimeout:
		return BrokenOff
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return Malformed
	}
	return Unavailable
}
