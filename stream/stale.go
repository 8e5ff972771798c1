package stream

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
)

// Stale is the event that tells clients since when, and with which status, the
// backend can't answer. It says nothing of where the backend is or how it
// failed beyond that.
func Stale(since time.Time, status int) event.Event {
	notice, _ := json.Marshal(struct { // times, numbers and text can't fail
		Since  time.Time `json:"since"`
		Status int       `json:"status"`
		Reason string    `json:"reason"`
	}{since.UTC().Truncate(time.Millisecond), status, http.StatusText(status)})
	return event.Event{Name: "stale", Data: notice}
}
