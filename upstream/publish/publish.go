// Package publish turns the POST requests of services that are trusted into
// events: one or a batch, as JSON, lines of JSON or a form.
package publish

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

const (
	// DefaultMaxBody is how many bytes a body may have unless the rule says
	// otherwise: 1 MiB.
	DefaultMaxBody = 1 << 20
	// MaxEvents is how many events a request may hold.
	MaxEvents = 1000
	// Claim is that which lists what a token may publish, unless the rule
	// says otherwise.
	Claim = "publish"
)

// Publish turns POST requests into events. The request says on which topics:
//
//	{"topic": "a", "event": "greeting", "id": "1", "data": {"any": "JSON"}}
//
// `topic` is a text or a list of texts; `event` and `id` may be left out. A list
// of such objects, or one in each line, is published whole or not at all. A form
// has fields of the same names, and its data is sent as the text it is.
type Publish struct {
	// Secrets of which the header `Authorization: Bearer …` must have one,
	// for any topic; several are for rotation. Placeholders, such as
	// {env.PUBLISH_TOKEN}, are replaced when the configuration is loaded.
	Tokens []string `json:"tokens,omitempty"`

	// Takes JSON Web Tokens. Their claim, "publish" by default, lists patterns
	// of the topics that may be published; one without it may publish nothing.
	JWT *access.JWT `json:"jwt,omitempty"`

	// How many bytes a body may have; a longer one is refused with 413.
	// Default, and what zero means: 1048576 (1 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	digests [][sha256.Size]byte
}

// Validate checks the configuration without resolving placeholders or reading
// files: a token that holds a placeholder passes. It changes nothing, so that a
// Caddyfile's parser can call it.
func (p *Publish) Validate() error {
	switch {
	case len(p.Tokens) == 0 && p.JWT == nil:
		return errors.New("publish must say who may: write `token {env.PUBLISH_TOKEN}`, or a `jwt` block")
	case p.MaxBody < 0:
		return fmt.Errorf("max_body is %d bytes: want a positive number, or none for the default", p.MaxBody)
	}
	if i := slices.Index(p.Tokens, ""); i >= 0 {
		return emptyToken(i)
	}
	return nil
}

func emptyToken(i int) error {
	return fmt.Errorf("token %d is empty: make one with `openssl rand -hex 32`", i+1)
}

// Provision checks the configuration. Cleanup must be called when the rule
// goes, also after an error.
func (p *Publish) Provision(repl *caddy.Replacer) error {
	if err := p.Validate(); err != nil {
		return err
	}
	p.digests = nil
	for i, secret := range p.Tokens {
		secret, err := repl.ReplaceOrErr(secret, true, true)
		if err != nil {
			return fmt.Errorf("token %d: %w; is the variable set?", i+1, err)
		}
		if secret == "" {
			return emptyToken(i)
		}
		p.digests = append(p.digests, sha256.Sum256([]byte(secret)))
	}
	if p.JWT != nil {
		return p.JWT.Provision(repl, Claim)
	}
	return nil
}

// Cleanup gives back what Provision has taken.
func (p *Publish) Cleanup() {
	if p.JWT != nil {
		p.JWT.Cleanup()
	}
}

// Receive makes the events that a request stands for: one or more. Nothing of
// the body is read before the request was found to have a right. The credential
// is what the rule's JWT has taken from the request; without one it isn't looked
// at. Every error is a [refusal.Error].
func (p *Publish) Receive(w http.ResponseWriter, r *http.Request, c access.Credential) ([]hub.Message, error) {
	messages, refused := p.receive(w, r, c)
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	return messages, nil
}

func (p *Publish) receive(w http.ResponseWriter, r *http.Request, c access.Credential) ([]hub.Message, *refusal.Error) {
	token, refused := p.authorize(r, c)
	if refused != nil {
		return nil, refused
	}
	parse, refused := parserOf(r.Header)
	if refused != nil {
		return nil, refused
	}
	content, refused := body.Read(w, r, p.maxBody())
	if refused != nil {
		return nil, refused
	}
	messages, refused := parse(content)
	if refused != nil {
		return nil, refused
	}
	return messages, permit(r, messages, token)
}

func (p *Publish) maxBody() int64 {
	if p.MaxBody > 0 {
		return p.MaxBody
	}
	return DefaultMaxBody
}

// authorize returns the request's JWT, or nil if it has one of the secrets, with
// which it may publish anything.
func (p *Publish) authorize(r *http.Request, c access.Credential) (*access.Token, *refusal.Error) {
	secret := access.Bearer(r)
	if p.isSecret(secret) {
		return nil, nil
	}
	switch {
	case p.JWT == nil && secret == "":
		return nil, access.NoToken("the header Authorization: Bearer …")
	case p.JWT == nil:
		return nil, access.WrongToken()
	}
	token, refused := p.JWT.Check(r.Context(), c)
	if refused == nil {
		refused = c.CheckOrigin(r)
	}
	return token, refused
}

// isSecret compares digests, all of them: neither their order nor the secrets'
// lengths can be learnt from how long it takes.
func (p *Publish) isSecret(secret string) bool {
	digest, found := sha256.Sum256([]byte(secret)), 0
	for i := range p.digests {
		found |= subtle.ConstantTimeCompare(digest[:], p.digests[i][:])
	}
	return found == 1
}

// permit refuses what the token doesn't let its owner publish, and early data
// that would be published again if it came again.
func permit(r *http.Request, messages []hub.Message, token *access.Token) *refusal.Error {
	early := body.IsEarly(r)
	for _, m := range messages {
		if early && m.Event.ID == "" {
			return body.TooEarly()
		}
		if token == nil {
			continue
		}
		for _, topic := range m.Topics {
			if !token.Covers(topic) {
				return access.InsufficientScope("the token doesn't let its owner publish on the topic %q", topic)
			}
		}
	}
	return nil
}
