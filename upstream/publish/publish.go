// Package publish turns POST requests of trusted services into events. A request
// holds one event or a batch, as JSON, JSON lines or a form.
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
	// DefaultMaxBody is the default limit of a body's size in bytes: 1 MiB.
	DefaultMaxBody = 1 << 20
	// MaxEvents limits the events of a request.
	MaxEvents = 1000
	// Claim is the default name of the claim that lists the topics on which a
	// token may publish.
	Claim = "publish"
)

// Publish turns POST requests into events. The request names the topics:
//
//	{"topic": "a", "event": "greeting", "id": "1", "data": {"any": "JSON"}}
//
// `topic` is a string or a list of strings; `event` and `id` are optional. The
// module publishes all events of a list, or of JSON lines, or none. A form has
// fields with the same names, and its data is plain text.
type Publish struct {
	// Sets the tokens that may publish on any topic. The request sends one in the
	// header `Authorization: Bearer …`. Several allow rotation. The module
	// replaces placeholders, for example {env.PUBLISH_TOKEN}, when it loads the
	// configuration.
	Tokens []string `json:"tokens,omitempty"`

	// Accepts JSON Web Tokens. Their claim, "publish" by default, lists patterns
	// of topics on which the token may publish. A token without the claim may
	// publish on none.
	JWT *access.JWT `json:"jwt,omitempty"`

	// Limits the size of a body in bytes. The module refuses a larger body with
	// 413. Default, and what zero means: 1048576 (1 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	digests [][sha256.Size]byte
}

// Validate checks the configuration without resolving placeholders or reading
// files: a token that holds a placeholder passes. It changes nothing, so that a
// Caddyfile parser can call it.
func (p *Publish) Validate() error {
	switch {
	case len(p.Tokens) == 0 && p.JWT == nil:
		return errors.New("publish has no credentials: write `token {env.PUBLISH_TOKEN}`, or a `jwt` block")
	case p.MaxBody < 0:
		return fmt.Errorf("max_body is %d bytes: want a positive number, or none for the default", p.MaxBody)
	}
	if i := slices.Index(p.Tokens, ""); i >= 0 {
		return fmt.Errorf("token %d is empty: make one with `openssl rand -hex 32`", i+1)
	}
	if p.JWT != nil {
		return p.JWT.Validate()
	}
	return nil
}

// Provision checks the configuration and resolves its placeholders with repl. The
// caller must call Cleanup when it drops the rule, even after an error.
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
		p.digests = append(p.digests, sha256.Sum256([]byte(secret)))
	}
	if p.JWT != nil {
		return p.JWT.Provision(repl, Claim)
	}
	return nil
}

// Cleanup releases the resources of the rule.
func (p *Publish) Cleanup() {
	if p.JWT != nil {
		p.JWT.Cleanup()
	}
}

// Receive authorizes a request and parses it into one or more messages. It reads
// the body after the authorization. c is the credential that the rule's JWT has
// taken from the request; Receive ignores it if the rule has no JWT. Every error
// is a [refusal.Error].
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
	parse, refused := parserOf(r.Header, p.maxBody())
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
	return messages, authorizeMessages(r, messages, token)
}

func (p *Publish) maxBody() int64 {
	if p.MaxBody > 0 {
		return p.MaxBody
	}
	return DefaultMaxBody
}

// authorize returns the request's JWT. It returns nil for a request with one of
// the rule's tokens, which may publish on any topic.
func (p *Publish) authorize(r *http.Request, c access.Credential) (*access.Token, *refusal.Error) {
	bearer := access.Bearer(r)
	if p.isToken(bearer) {
		return nil, nil
	}
	switch {
	case p.JWT == nil && bearer == "":
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

// isToken reports whether a text is one of the rule's tokens. It compares the
// digests of all: its time reveals neither their order nor their lengths.
func (p *Publish) isToken(text string) bool {
	digest, found := sha256.Sum256([]byte(text)), 0
	for i := range p.digests {
		found |= subtle.ConstantTimeCompare(digest[:], p.digests[i][:])
	}
	return found == 1
}

// authorizeMessages refuses topics that the token doesn't cover. It also refuses
// early data without an ID, which an attacker can send again.
func authorizeMessages(r *http.Request, messages []hub.Message, token *access.Token) *refusal.Error {
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
