// Package webhook turns verified POST requests into events.
//
// [Webhook.Receive] reads a body up to its limit and verifies the signature of its
// original bytes. Only then it parses the content, from which it makes the topics,
// the names and the data of the events.
package webhook

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/store"
)

// DefaultMaxBody is the default limit of a body's size in bytes: 1 MiB. Senders
// of larger bodies have another one.
const DefaultMaxBody = 1 << 20

// largeBodies limits what the bodies of all rules hold beyond their first MiB:
// 128 MiB together.
var largeBodies = bodies.NewBudget(128 << 20)

// Webhook turns verified POST requests into events.
//
// Templates may hold every placeholder that Caddy knows for a request, and two
// more that look into the body:
//
//	{json.PATH}   a field of a JSON body, by its GJSON path: {json.repository.full_name}
//	{form.NAME}   a field of a form (application/x-www-form-urlencoded), by its
//	              name, {form.user[name]}, or its path, {form.user.name}
//
// A string becomes its text, and a number or a boolean its literal. Null counts
// as missing. The module refuses an object or a list. It never expands
// placeholders in a sender's values. {file.*} is not available. A template with a
// missing or empty placeholder is empty as a whole.
type Webhook struct {
	// Sets how the module verifies the sender. Required: there is no default.
	// Use the sender `none` to accept requests from anyone.
	Verify *Verify `json:"verify,omitempty"`

	// Sets the topics on which the module publishes the event, as templates,
	// for example `repos/{json.repository.full_name}`. Each must give 1 to 1024
	// bytes of text without control characters. Otherwise the module refuses
	// the request with 422 and a reason that names the missing part. Default: the
	// request's path without its leading slash. For github, gitlab, gitea and
	// bitbucket the default has a second topic, `github/` (and so on) followed
	// by the repository's full name, if the payload has one. There is no default
	// topic if refresh is set.
	Topics []string `json:"topics,omitempty"`

	// Sets the event's name, as a template. Browsers add their listeners under
	// this name. An empty name makes the event unnamed (onmessage). A name that
	// no event can have is changed: error and open become error_ and open_, line
	// breaks become underscores, and 255 bytes remain. Default:
	// what the sender defines, for example the header X-GitHub-Event for github
	// or the body's `type` for standard-webhooks. For hmac, token, basic and
	// none the default is no name.
	Event string `json:"event,omitempty"`

	// Sets the id of the delivery, as a template. A delivery that the sender
	// repeats must have the same id. An id that the signature doesn't cover, such
	// as a header, counts together with the body. An empty id leaves the event without one.
	// The module replaces an id that an event stream can't carry (one longer
	// than 64 bytes or with a space, for example) by 32 characters of its
	// SHA-256. Default: what the sender defines, for example the header
	// X-GitHub-Delivery for github or webhook-id for standard-webhooks. For
	// hmac, token, basic and none the default is no id. If split makes several
	// events of a delivery and the id doesn't use the body, the module appends a
	// hyphen and the event's number.
	ID string `json:"id,omitempty"`

	// Sets a jq program that splits a JSON body, for example `.items[]`. Each
	// value that it outputs becomes one event; topic, event, id, when, select,
	// data and refresh see that value as the body. The module publishes all
	// events or none: it refuses the request if it refuses one of them. The
	// program sees JSON lines as a list and a form as an object. Default: `.[]`
	// for a batch of CloudEvents, one event for each item of sendgrid and
	// microsoft-graph, and one event for the whole body otherwise.
	Split string `json:"split,omitempty"`

	// Sets a jq program that selects the deliveries to publish, for example
	// `.action == "opened"`. If it outputs false, null or nothing, the module
	// acknowledges the request, publishes nothing and polls nothing. Default:
	// all deliveries.
	When string `json:"when,omitempty"`

	// Sets the views to poll, as templates of URIs, for example
	// `/v1/orders/{json.id}`. The module polls the documents of that path, of
	// its parents and of its children that a `poll` rule on the same hub keeps
	// live. A literal host may precede the path, for example
	// `https://shop.example.com/orders`; the default is the request's own host.
	// The value of a placeholder must fit in one segment of the path. Otherwise
	// the module refuses the request with 422. A rule with refresh and without
	// topics publishes nothing itself: each viewer gets the backend's response to
	// its own request.
	Refresh []string `json:"refresh,omitempty"`

	// Sets a jq program that makes the event's data from a JSON body, for
	// example `{action, number: .issue.number}`. The data is JSON: a string
	// keeps its quotes. If the program outputs nothing, the module acknowledges
	// the request and publishes nothing. If it outputs several values, the
	// module refuses the request with 422. Default: the body's own bytes, or,
	// for a body of a binary type, JSON of the form {"type":…,"base64":…}.
	Select string `json:"select,omitempty"`

	// Sets the event's data as plain text, as a template, for example
	// `{json.user.name} commented`. The module leaves out missing placeholders.
	// Don't combine it with select.
	Data string `json:"data,omitempty"`

	// Limits the size of a body in bytes. The module refuses a larger body with
	// 413. The bodies of all rules that are being received hold at most 128 MiB
	// together, or four times max_body if that is more; the first MiB of each
	// doesn't count. Default, and what zero means: 1048576 (1 MiB); for github
	// and gitlab, which send as much, 26214400 (25 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// Sets how many deliveries the module remembers by their ids, and how long.
	// A delivery that comes again within these limits gets the same response as
	// the first time, and the module publishes it once. Default: 100000
	// deliveries, 24h.
	Dedupe *Dedupe `json:"dedupe,omitempty"`

	// Forwards the request, byte for byte, to the next handlers: the app.
	//
	//   - "sync": the app gets the request before the module publishes it. The
	//     sender gets the app's response. If that isn't 2xx, the module
	//     publishes nothing. The app also answers handshakes.
	//   - "async": the module publishes and acknowledges the request first. Then
	//     it forwards the request until the app responds with 2xx.
	//
	// The app also gets requests that can't be mapped and those that the rule
	// drops. It never gets requests that fail verification. Default: the app
	// gets no requests.
	Forward string `json:"forward,omitempty"`

	// How long the module retries a delivery that it forwards "async" before it
	// lists the delivery as a dead letter. The module lowers it to nine tenths of the
	// age that the hub's history keeps: it can't forward a delivery that has
	// left the history. Default, and what zero means: 24h.
	ForwardFor caddy.Duration `json:"forward_for,omitempty"`

	verifier *verifier
	mapper   *mapper
}

// Values of [Webhook.Forward].
const (
	ForwardSync  = "sync"
	ForwardAsync = "async"
)

// DefaultForwardFor is the default of [Webhook.ForwardFor]: 24 hours.
const DefaultForwardFor = caddy.Duration(24 * time.Hour)

// Dedupe limits how many deliveries with an id the module remembers.
type Dedupe struct {
	// Turns the memory of deliveries off. The module then recognizes a repeated
	// delivery only while its event is in the hub's history, by the event's id.
	Off bool `json:"off,omitempty"`

	// Limits how many deliveries the module remembers. Default, and what zero
	// means: 100000.
	MaxCount int `json:"max_count,omitempty"`

	// How long the module remembers a delivery. Default, and what zero means:
	// 24h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

// Renamed is the name that the rule or the sender gives an event, and the one that
// the event has.
type Renamed struct{ Given, Name string }

// Delivery is one incoming webhook request, verified and mapped.
type Delivery struct {
	// ID is the sender's identifier of the request as a whole, or empty. A
	// repeated request has the same ID; every other request has another one: if
	// the signature doesn't cover the sender's identifier, ID holds the body's
	// digest, too. It is empty if each event of the request has an ID of its own.
	ID string
	// Body is the request's original body.
	Body []byte
	// Messages are the events to publish, all or none. There may be none.
	Messages []Message
	// Renamed are the names of events that Messages can't have; see
	// [event.SafeName].
	Renamed []Renamed
	// Refresh are the views to poll after publishing.
	Refresh []RefreshTarget
	// Status is the only HTTP status that the sender takes for success. Zero
	// means that the sender accepts any 2xx.
	Status int
	// NoBody means that the response must have no body: Slack shows it to the
	// user that issued a command.
	NoBody bool
	// HandshakeResponse is set if the request is a handshake that the module
	// answers. Write it; there is nothing else to do.
	HandshakeResponse *HandshakeResponse
	// IsHandshake means that the request is a handshake that the app answers.
	IsHandshake bool
	// Refused is the reason why a verified request can't be published. Only
	// rules that forward requests set it; other rules return it as an error.
	Refused error

	hold      *bodies.Hold
	refreshed map[RefreshTarget]bool // the members of Refresh
	firstByID map[string]Message     // the first message of each event ID
}

// Message is one event and its topics: at least one, each once. The event's ID
// is the delivery's or its own, or empty.
type Message = hub.Message

// IsDropped reports whether the rule wants nothing of the delivery.
func (d *Delivery) IsDropped() bool {
	return len(d.Messages) == 0 && len(d.Refresh) == 0 && d.Refused == nil
}

// IdempotencyKey returns the key that the module remembers a delivery by,
// within the scope of the rule. It is the zero key if the delivery has no ID.
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
