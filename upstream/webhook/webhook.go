// Package webhook turns verified POST requests into events.
//
// A body is read up to its bound and its signature is checked over the bytes
// as they came. Only then is anything in it looked at: where the event goes,
// what it is called and what it says.
package webhook

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/jq"
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
//	{form.NAME}   a field of a form (application/x-www-form-urlencoded)
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
	// and a reason that names what is missing. Default: the request's path
	// without its leading slash.
	Topics []string `json:"topics,omitempty"`

	// The event's name, as a template: what a browser adds its listener for.
	// If it comes to nothing, the event is unnamed (onmessage). Default: what
	// the sender's kind says, which is the header X-GitHub-Event for github,
	// the body's `type` for standard-webhooks, and no name for hmac and none.
	Event string `json:"event,omitempty"`

	// What tells this delivery from all others, as a template: a delivery
	// that comes again has the same id. If it comes to nothing, the event has
	// none. An id that can't stand in an event stream, because it is longer
	// than 64 bytes or holds a space, say, is replaced by 32 characters of
	// its SHA-256, always the same for the same id. Default: what the sender's
	// kind says, which is the header X-GitHub-Delivery for github, webhook-id
	// for standard-webhooks, and no id for hmac and none.
	ID string `json:"id,omitempty"`

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

	verifier *verifier
	topics   []*mapped
	event    mapping
	id       mapping
	program  *jq.Program
	data     *mapped
}

// mapping is a template for a field that an event may go without. One that
// comes from the sender's kind, and not from the rule, is lenient: a body that
// doesn't fit it leaves the field out.
type mapping struct {
	*mapped
	lenient bool
}

// Message is what a request has become.
type Message struct {
	// Topics are what the event is published on: at least one, each once.
	Topics []string
	// Event is what is published. Its ID is the delivery's, or empty.
	Event event.Event
}

// Provision checks the configuration and compiles it. Placeholders in secrets
// are replaced now, by repl.
func (wh *Webhook) Provision(repl *caddy.Replacer) error {
	if wh.MaxBody < 0 {
		return fmt.Errorf("max_body is %d bytes: want a positive number, or none for the default", wh.MaxBody)
	}
	if wh.Verify == nil {
		return errors.New("a webhook must say how it is verified: write `verify <sender> <secret>`, or `verify none` if anyone may send")
	}
	sender, err := wh.Verify.provision(repl)
	if err != nil {
		return err
	}
	wh.verifier = sender.verifier
	return wh.compile(sender)
}

func (wh *Webhook) compile(sender *provisioned) (err error) {
	if wh.Select != "" && wh.Data != "" {
		return errors.New("select and data both say what is sent: use one of them")
	}
	if wh.topics, err = compileTopics(wh.Topics); err != nil {
		return err
	}
	if wh.event, err = compileMapping("event", wh.Event, sender.event); err != nil {
		return err
	}
	if wh.id, err = compileMapping("id", wh.ID, sender.id); err != nil {
		return err
	}
	if wh.data, err = compileTemplate("data", wh.Data); err != nil {
		return err
	}
	wh.program = nil
	if wh.Select != "" {
		if wh.program, err = jq.Compile(wh.Select); err != nil {
			return fmt.Errorf("select: %w", err)
		}
	}
	return nil
}

func compileTopics(sources []string) (topics []*mapped, err error) {
	for _, src := range sources {
		if src == "" {
			return nil, errors.New("topic is empty")
		}
		topic, err := compileTemplate("topic", src)
		if err != nil {
			return nil, err
		}
		topics = append(topics, topic)
	}
	return topics, nil
}

func compileMapping(name, src, fallback string) (mapping, error) {
	lenient := src == ""
	if lenient {
		src = fallback
	}
	t, err := compileTemplate(name, src)
	return mapping{t, lenient}, err
}

// Receive makes the event that a request stands for. It returns nil, and no
// error, if select gives nothing: the request is acknowledged and dropped.
// Every error is a [refusal.Error].
//
// The body is read to its end and put back, so that another handler can read
// it. repl must be the request's own; it isn't changed.
func (wh *Webhook) Receive(w http.ResponseWriter, r *http.Request, repl *caddy.Replacer) (*Message, error) {
	message, refused := wh.receive(w, r, repl)
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	return message, nil
}

func (wh *Webhook) receive(w http.ResponseWriter, r *http.Request, repl *caddy.Replacer) (*Message, *refusal.Error) {
	body, refused := readBody(w, r, wh.maxBody())
	if refused != nil {
		return nil, refused
	}
	if refused := wh.verifier.check(r.Header, body); refused != nil {
		return nil, refused
	}
	return wh.message(newPayload(r, repl, body))
}

func (wh *Webhook) maxBody() int64 {
	if wh.MaxBody > 0 {
		return wh.MaxBody
	}
	return DefaultMaxBody
}
