package caddysse

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// checkPublish finds options that don't go with publish.
func (h *Handler) checkPublish() error {
	switch {
	case h.Poll != nil || h.Webhook != nil || h.Observe:
		return errors.New("publish can't share a rule with poll, webhook or observe: write two")
	case len(h.Topics) > 0 || len(h.Allow) > 0:
		return errors.New("who publishes says on which topics: leave out topic and allow; a rule that lets clients watch topics is one of its own")
	case h.JWT != nil:
		return errors.New("jwt belongs into publish's block")
	case len(h.CORS) > 0 || h.Heartbeat != 0 || h.Retry != 0 || h.MaxAge != 0 || h.ShutdownEvent:
		return errors.New("a publish rule has no streams: leave out cors, heartbeat, retry, max_age and shutdown_event")
	default:
		return nil
	}
}

// published is the answer to who has published. It is a 200 and no 202: the
// events are in the log, and there is nothing that is yet to be done.
type published struct {
	// IDs are those of the events on the wire, in the order of the request.
	IDs []string `json:"ids"`
	// Streams is how many are open on the topics of what was published now.
	Streams int `json:"streams"`
	// Duplicates are those of the ids whose events had been published before.
	Duplicates []string `json:"duplicates,omitempty"`
}

// servePublish publishes the events of a POST, all or none.
func (h *Handler) servePublish(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodPost {
		return passOn(w, r, next, refuseMethod(http.MethodPost))
	}
	done := boundBody(r)
	messages, err := h.Publish.Receive(w, r, credentialOf(r))
	done()
	if err != nil {
		return h.refuse(w, r, err)
	}
	outcome, err := h.hub.PublishAll(messages, hub.IdempotencyKey{})
	if err != nil {
		h.notPublished(len(messages), err)
		return h.refuse(w, r, &refusal.Error{
			Status: http.StatusServiceUnavailable, Kind: refusal.NotStored, Reason: "the events can't be stored, and none of them was; send them again later",
			RetryAfter: 5 * time.Second, Err: err,
		})
	}
	body, err := json.Marshal(h.publishedAs(messages, outcome))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the events are published whether the sender hears it or not
	return nil
}

func (h *Handler) publishedAs(messages []hub.Message, outcome hub.Outcome) published {
	p := published{IDs: outcome.IDs}
	var topics []string
	for i := range messages {
		if slices.Contains(outcome.Repeated, i) {
			p.Duplicates = append(p.Duplicates, outcome.IDs[i])
			continue
		}
		topics = append(topics, messages[i].Topics...)
	}
	p.Streams = h.hub.Subscribers(topics)
	return p
}
