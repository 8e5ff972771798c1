package caddysse

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

var publishKind = kind{
	option:   "publish",
	isSet:    func(h *Handler) bool { return h.Publish != nil },
	parse:    (*Handler).parsePublish,
	name:     "publish",
	validate: func(h *Handler) error { return h.Publish.Validate() },
	new:      newPublishRule,
	refuses: map[string]string{
		"topic": publishNamesTopics,
		"allow": publishNamesTopics,
		"jwt":   "jwt belongs in publish's block",
	},
}

const publishNamesTopics = "each publish request names its topics: leave out topic and allow; a rule that lets clients subscribe to topics is one of its own"

// publishRule publishes the events that trusted services send.
type publishRule struct {
	*rule
	tokens  *ruleTokens
	handler *Handler
}

func newPublishRule(h *Handler, r *rule) ruleKind {
	return &publishRule{rule: r, handler: h, tokens: &ruleTokens{r, h.Publish.JWT}}
}

func (p *publishRule) provision(caddy.Context) error {
	if p.tokens.jwt != nil {
		p.tokens.logFailures()
	}
	return p.handler.Publish.Provision(caddy.NewReplacer())
}

func (p *publishRule) cleanup() error {
	p.handler.Publish.Cleanup()
	return nil
}

func (p *publishRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return p.tokens.serve(w, r, func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodPost {
			return passOrRefuse(w, r, next, refuseMethod(http.MethodPost))
		}
		return p.publish(w, r)
	})
}

// publish publishes the events of a POST, all or none.
func (p *publishRule) publish(w http.ResponseWriter, r *http.Request) error {
	done := limitBodyTime(r)
	messages, err := p.handler.Publish.Receive(w, r, credentialOf(r))
	done()
	if err != nil {
		return p.refuse(w, r, err)
	}
	outcome, err := p.hub.PublishAll(messages, hub.IdempotencyKey{})
	if err != nil {
		p.logPublishFailure(len(messages), err)
		return p.refuse(w, r, &refusal.Error{
			Status: http.StatusServiceUnavailable, Kind: refusal.NotStored, Reason: "the events can't be stored; send all of them again later",
			RetryAfter: 5 * time.Second, Err: err,
		})
	}
	return p.respond(w, messages, outcome)
}

// published is the response to a publish request. Its status is 200 and not
// 202: the events are in the log, and nothing is left to be done.
type published struct {
	// IDs are the ids of the events on the wire, in the order of the request.
	IDs []string `json:"ids"`
	// Streams counts the open streams on the topics of the new events.
	Streams int `json:"streams"`
	// Duplicates are the ids of events that had been published before.
	Duplicates []string `json:"duplicates,omitempty"`
}

func (p *publishRule) respond(w http.ResponseWriter, messages []hub.Message, outcome hub.Outcome) error {
	body, err := json.Marshal(p.published(messages, outcome))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // the events are published even if the sender has left
	return nil
}

func (p *publishRule) published(messages []hub.Message, outcome hub.Outcome) published {
	result := published{IDs: outcome.IDs}
	var topics []string
	for i := range messages {
		if slices.Contains(outcome.DuplicateIndexes, i) {
			result.Duplicates = append(result.Duplicates, outcome.IDs[i])
			continue
		}
		topics = append(topics, messages[i].Topics...)
	}
	result.Streams = p.hub.Subscribers(topics)
	return result
}
