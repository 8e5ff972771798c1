// Package refusal is how a request is turned down: a status and a short reason,
// as plain text or, for a client that asks for it, as a problem (RFC 9457).
package refusal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is a refusal. Its reason is shown to the client, so it must hold
// nothing that the client may not know.
type Error struct {
	// Status is the HTTP status, 4xx or 5xx.
	Status int
	// Reason is one short line that says what is wrong and, where it can,
	// what to send instead.
	Reason string
	// RetryAfter is how long the client should wait before it tries again.
	// Zero: the response doesn't say.
	RetryAfter time.Duration
	// Kind is what sort of refusal it is, for who counts them: one of a few.
	// It may be empty.
	Kind string
	// Detail says more than the reason, to the operator only. It holds no
	// secret and no signature. Empty: the reason says all.
	Detail string
	// Challenge is what the WWW-Authenticate header says, which a 401 has to
	// have (RFC 9110 §15.5.2). Empty: there is none.
	Challenge string
	// Err is the cause, for the log. It is never shown to the client.
	Err error
}

// The kinds of refusals of who watches or publishes. Webhooks have their own.
const (
	NoToken           = "no_token"
	WrongToken        = "wrong_token"
	ExpiredToken      = "expired_token"
	InvalidClaims     = "invalid_claims"
	NoKeys            = "no_keys" // for tokens
	CrossSite         = "cross_site"
	TopicNotAllowed   = "topic_not_allowed"
	MaxStreams        = "max_streams"
	MaxStreamsClient  = "max_streams_per_client"
	MaxStreamsUser    = "max_streams_per_user"
	MaxViews          = "max_views"
	MaxViewsClient    = "max_views_per_client"
	Unwatchable       = "unwatchable"
	BackendCanNotTell = "backend_can_not_tell"
	NotStored         = "not_stored"
)

// Newf returns a refusal whose reason is formatted.
func Newf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Reason: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%d: %s: %v", e.Status, e.Reason, e.Err)
	}
	return fmt.Sprintf("%d: %s", e.Status, e.Reason)
}

func (e *Error) Unwrap() error { return e.Err }

// Write answers the request with the refusal.
func (e *Error) Write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	body := []byte(e.Reason + "\n")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if strings.Contains(r.Header.Get("Accept"), "application/problem+json") {
		body = e.problem()
		h.Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}

func (e *Error) problem() []byte {
	problem := struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(e.Status), e.Status, e.Reason}
	body, err := json.Marshal(problem)
	if err != nil { // strings and a number always marshal
		panic(err)
	}
	return body
}
