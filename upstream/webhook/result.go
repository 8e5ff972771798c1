package webhook

import (
	"errors"
	"net/http"

	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Result is what has become of a request, for who counts them.
type Result string

// What becomes of requests.
const (
	// Accepted: published now, or the views that it concerns are polled.
	Accepted Result = "accepted"
	// Duplicate: it has come before, and was answered like the first time.
	Duplicate Result = "duplicate"
	// Dropped: acknowledged, and by the rule's own word there is no event.
	Dropped Result = "dropped"
	// Handshake: it was one, and was answered.
	Handshake Result = "handshake"

	// BadSignature: it doesn't prove who sends it, whatever the proof is.
	BadSignature Result = "bad_signature"
	// StaleTimestamp: the signature is right, and its time too far from now.
	StaleTimestamp Result = "stale_timestamp"
	// TooLarge: the body is larger than allowed.
	TooLarge Result = "too_large"
	// Malformed: the body isn't what it should be.
	Malformed Result = "malformed"
	// Unmapped: it has not what the rule needs of it.
	Unmapped Result = "unmapped"
	// BadHandshake: what asks whether to send here doesn't show what it should.
	BadHandshake Result = "bad_handshake"
	// Early: it came as early data of TLS, and has no id.
	Early Result = "early"
	// BrokenOff: it did not come to its end, or not in time.
	BrokenOff Result = bodies.BrokenOff
	// Unavailable: what is needed to answer it can't be had at present.
	Unavailable Result = "unavailable"
	// NotStored: the store could not take it.
	NotStored Result = "not_stored"
	// AppRefused: it was passed on, and the app's answer was no success.
	AppRefused Result = "app_refused"
)

// Results are all that there are.
var Results = []Result{
	Accepted, Duplicate, Dropped, Handshake,
	BadSignature, StaleTimestamp, TooLarge, Malformed, Unmapped, BadHandshake, Early, BrokenOff,
	Unavailable, NotStored, AppRefused,
}

// ResultOf is what a refusal counts as.
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

// ofHandshake marks the refusal of one.
func ofHandshake(answer *HandshakeResponse, refused *refusal.Error) (*HandshakeResponse, *refusal.Error) {
	if refused != nil && refused.Kind == "" {
		refused.Kind = string(BadHandshake)
	}
	return answer, refused
}
