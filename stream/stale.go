package stream

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
)

// Fresh returns the event that ends a [Stale] where no document does.
func Fresh() event.Event { return event.Event{Name: "fresh", Data: []byte("{}")} }

// Stale returns the event that tells clients since when the backend has failed,
// and with which HTTP status. It discloses no address and no error message of the
// backend.
func Stale(since time.Time, status int) event.Event {
	notice, _ := json.Marshal(struct { // marshaling times, numbers and strings can't fail
		Since  time.Time `json:"since"`
		Status int       `json:"status"`
		Reason string    `json:"reason"`
	}{since.UTC().Truncate(time.Millisecond), status, http.StatusText(status)})
	return event.Event{Name: "stale", Data: notice}
}
