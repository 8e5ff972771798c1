// Package refusal writes error responses: a status and a short reason, as plain text
// or, if the client accepts it, as problem details (RFC 9457).
package refusal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is a refusal. The client sees the reason, so it must hold nothing that the
// client may not know.
type Error struct {
	// Status is the HTTP status, 4xx or 5xx.
	Status int
	// Reason is one short line that says what is wrong and, if possible, what
	// to send instead.
	Reason string
	// RetryAfter is how long the client should wait before it tries again. It
	// is rounded up to seconds. Zero: the response has no Retry-After.
	RetryAfter time.Duration
	// Kind is a label for metrics, one of a small set. It may be empty.
	Kind string
	// Detail says more than the reason, for operators only. It must hold no
	// secrets and no signatures. It may be empty.
	Detail string
	// Challenge is the WWW-Authenticate header, which a 401 must have (RFC
	// 9110 §15.5.2). Empty: the response has none.
	Challenge string
	// Err is the cause, for the log. The client never sees it.
	Err error
}

// The kinds of refusals of subscribers and publishers. Webhooks have other kinds.
const (
	NoToken          = "no_token"
	WrongToken       = "wrong_token"
	ExpiredToken     = "expired_token"
	InvalidClaims    = "invalid_claims"
	NoKeys           = "no_keys" // the key set can't be fetched
	CrossSite        = "cross_site"
	TopicNotAllowed  = "topic_not_allowed"
	MaxStreams       = "max_streams"
	MaxStreamsClient = "max_streams_per_client"
	MaxStreamsUser   = "max_streams_per_user"
	MaxViews         = "max_views"
	MaxViewsClient   = "max_views_per_client"
	MaxMemory        = "max_memory"
	NotStreamable    = "unwatchable"
	NoDocument       = "no_document" // a redirect, or another page
	BackendUndecided = "backend_can_not_tell"
	NotStored        = "not_stored"
)

// Shorten returns at most maxBytes of a text that a client has a part in, and an
// ellipsis if it is longer.
func Shorten(text string, maxBytes int) string {
	if len(text) <= maxBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxBytes], "") + "…"
}

// Newf returns a refusal with a formatted reason.
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

// Write writes the refusal as the response to the request.
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
		body = e.problemDetails()
		h.Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // the client may be gone
}

func (e *Error) problemDetails() []byte {
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
