// Package webhook turns verified POST requests into events.
//
// A body is read up to its bound and its signature is checked over the bytes
// as they came. Only then is anything in it looked at: where the event goes,
// what it is called and what it says.
package webhook

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/jq"
	"github.com/caddy-sse/caddy-sse/store"
)

// DefaultMaxBody is how many bytes a body may have unless the rule says
// otherwise: 1 MiB.
const DefaultMaxBody = 1 << 20

// Webhook turns verified POST requests into events.
//
// Templates may hold every placeholder that Caddy knows for a request, and two
// more that look into the body:
//
//	{json.PATH}   a field of a JSON body, by its GJSON path: {json.repository.full_name}
//	{form.NAME}   a field of a form (application/x-www-form-urlencoded), by its
//	              name, {form.user[name]}, or its path, {form.user.name}
//
// A string stands for its text, a number or a boolean for the way it is
// written; null is as good as absent, and an object or a list is refused. What
// a sender puts in a field is never expanded again. {file.*} can't be used.
// A template of which a placeholder comes to nothing comes to nothing.
type Webhook struct {
	// How the sender proves who it is. It must be said, even if it is that
	// nothing is proven ("none"): there is no default.
	Verify *Verify `json:"verify,omitempty"`

	// The topics that the event is published on, as templates, for example
	// `repos/{json.repository.full_name}`. Each must come to 1 to 1024 bytes
	// of text without control characters, or the request is refused with 422
	// and a reason that names what is missing. Default, unless there is a
	// refresh: the request's path without its leading slash and, for github,
	// gitlab, gitea and bitbucket, `github/` (and so on) with the repository's
	// full name after it, if the payload has one.
	Topics []string `json:"topics,omitempty"`

	// The event's name, as a template: what a browser adds its listener for.
	// If it comes to nothing, the event is unnamed (onmessage). Default: what
	// the sender's kind says, which is the header X-GitHub-Event for github,
	// the body's `type` for standard-webhooks, and so on, and no name for hmac,
	// token, basic and none.
	Event string `json:"event,omitempty"`

	// What tells this delivery from all others, as a template: a delivery
	// that comes again has the same id. If it comes to nothing, the event has
	// none. An id that can't stand in an event stream, because it is longer
	// than 64 bytes or holds a space, say, is replaced by 32 characters of
	// its SHA-256, always the same for the same id. Default: what the sender's
	// kind says, which is the header X-GitHub-Delivery for github, webhook-id
	// for standard-webhooks, and so on, and no id for hmac, token, basic and
	// none. Where split makes several events of a delivery and the id doesn't
	// look into the body, a hyphen and the event's number are added.
	ID string `json:"id,omitempty"`

	// A jq program that takes a JSON body apart: each value that it gives is an
	// event of its own, on which topic, event, id, when, select, data and
	// refresh look as if it were the body. All are published, or none: if one
	// is refused, all are. A body of JSON lines is the list of these, a form an
	// object. For example `.items[]`. Default: `.[]` for a batch of
	// CloudEvents, for sendgrid and microsoft-graph one event for each of
	// theirs, for all others the body is one event.
	Split string `json:"split,omitempty"`

	// A jq program that says whether there is to be an event: if it gives
	// false, null or nothing, the request is acknowledged and nothing is
	// published or polled. For example `.action == "opened"`. Default: always.
	When string `json:"when,omitempty"`

	// The views to poll, as templates of URIs, for example
	// `/v1/orders/{json.id}`: documents of that path, its parents and its
	// children that a `poll` rule on the same hub keeps live. A host may stand
	// before the path, as text, for example `https://shop.example.com/orders`;
	// else it is the request's own. What a placeholder stands for is one
	// segment of the path, and is refused with 422 if it can't be. A rule that
	// has these and no topics publishes nothing: what viewers get is what the
	// backend shows to them.
	Refresh []string `json:"refresh,omitempty"`

	// A jq program that makes what is sent from a JSON body, for example
	// `{action, number: .issue.number}`. It is sent as JSON: a string keeps
	// its quotes. If the program gives nothing, the request is acknowledged
	// and no event is published; if it gives several values, the request is
	// refused with 422. Default: the body is sent as it came, or, if it is of
	// a binary type, as JSON of the form {"type":…,"base64":…}.
	Select string `json:"select,omitempty"`

	// A template that is sent as plain text, for example
	// `{json.user.name} commented`. A placeholder that comes to nothing is
	// left out. Not together with select.
	Data string `json:"data,omitempty"`

	// How many bytes a body may have; a longer one is refused with 413.
	// Default, and what zero means: 1048576 (1 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// How long a delivery's id is remembered, and how many are, so that one
	// that comes again is answered like the first time and published once.
	// Default: 100000 deliveries, 24h.
	Dedupe *Dedupe `json:"dedupe,omitempty"`

	// Whether the next handlers, the app, still get the request, byte for byte:
	//
	//   - "sync": before it is published. Its answer is the sender's answer,
	//     and if that isn't 2xx nothing is published. It answers handshakes.
	//   - "async": after it was published and acknowledged, tried again until
	//     it says 2xx.
	//
	// What can't be mapped, or what the rule doesn't want, it gets nevertheless;
	// what isn't verified it never sees. Default: it doesn't get it.
	Forward string `json:"forward,omitempty"`

	// How long the app may fail to take a delivery that is passed on "async"
	// until it is given up and listed as a dead letter. It is at most nine
	// tenths of the time that the hub's history keeps: what has left that can't
	// be passed on. Default, and what zero means: 24h.
	ForwardFor caddy.Duration `json:"forward_for,omitempty"`

	sender   *provisioned
	topics   []*mapped
	ownTopic *mapped
	event    mapping
	id       mapping
	split    *jq.Program
	when     *jq.Program
	program  *jq.Program
	data     *mapped
	refresh  []*view
}

// The ways to pass requests on.
const (
	ForwardSync  = "sync"
	ForwardAsync = "async"
)

// DefaultForwardFor is how long the app may fail unless the rule says
// otherwise: 24 hours.
const DefaultForwardFor = caddy.Duration(24 * time.Hour)

// Dedupe bounds what is remembered of deliveries that have an id.
type Dedupe struct {
	// Off: a delivery that comes again is known only as long as its event is in
	// the history, by the event's id.
	Off bool `json:"off,omitempty"`

	// How many deliveries are remembered. Default, and what zero means: 100000.
	MaxCount int `json:"max_count,omitempty"`

	// How long each is. Default, and what zero means: 24h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

// Delivery is what a request has become.
type Delivery struct {
	// ID is what the sender identifies the request as a whole by, or empty.
	// It is the same when the request comes again, and another one for any
	// other request. (Where the events of one have ids of their own, it has
	// none as a whole.)
	ID string
	// Body is the request's body as it came.
	Body []byte
	// Messages are what is published, all or none. There may be none.
	Messages []Message
	// Refresh are the views that are polled after that.
	Refresh []RefreshTarget
	// Status is the HTTP status that the sender takes for success, if it isn't
	// content with any 2xx; else zero.
	Status int
	// NoBody tells that the sender makes something of an answer's body, and is
	// to get none: Slack shows it to who has written a command.
	NoBody bool
	// HandshakeResponse is set if the request is a handshake: it is to be sent, and there
	// is nothing else to do.
	Answer *HandshakeResponse
	// IsHandshake tells that the request is a handshake that the app is to answer.
	IsHandshake bool
	// Refused is why a request that is verified can't be published. It is set
	// only for rules that pass it on nevertheless.
	Refused error

	seen map[RefreshTarget]bool // those in Refresh
	ids  map[string]Message     // the first of each id
}

// Message is one event and where it goes: at least one topic, each once. The
// event's ID is the delivery's, or empty.
type Message = hub.Message

// IdempotencyKey is what a delivery is remembered by among those of the rule that the
// scope names. It is none if the delivery has no id.
func (wh *Webhook) IdempotencyKey(scope string, d *Delivery) hub.IdempotencyKey {
	if wh.Dedupe == nil {
		return hub.IdempotencyKey{Scope: scope, ID: d.ID}
	}
	if wh.Dedupe.Off {
		return hub.IdempotencyKey{}
	}
	return hub.IdempotencyKey{Scope: scope, ID: d.ID, Window: store.Window{
		MaxCount: wh.Dedupe.MaxCount, MaxAge: time.Duration(wh.Dedupe.MaxAge),
	}}
}
