package access

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Authorize asks the backend whether a subscriber may read the topics of a
// stream.
type Authorize struct {
	// The URI of the authorization check: a GET request through the handlers
	// that follow, with the subscriber's credentials. Placeholders may stand
	// for segments of the path and for values of parameters. A 2xx response
	// lets the subscriber in. A failure (408, 425, 429, 5xx) makes the stream
	// wait. Any other response is the subscriber's response. There is one
	// check for each topic of a stream. Required.
	URI string `json:"uri"`

	// How often the check is repeated while a stream is open, at most; each
	// interval is a random one between half of this and all of it. A refusal
	// ends the stream. At least 1s. Default: 0, which means that the backend
	// is asked only when a stream opens.
	Recheck caddy.Duration `json:"recheck,omitempty"`

	template *URITemplate
}

// Validate returns the error that Provision would return. It doesn't change c.
func (c *Authorize) Validate() error {
	unused := *c
	return unused.Provision()
}

// Provision compiles the URI.
func (c *Authorize) Provision() (err error) {
	if r := time.Duration(c.Recheck); r < 0 || r > 0 && r < time.Second {
		return fmt.Errorf("authorize: recheck %v is too often for the backend: write 1s or more", r)
	}
	if c.template, err = NewURITemplate(c.URI); err != nil {
		return fmt.Errorf("authorize %w", err)
	}
	return nil
}

// Template returns the compiled URI, or nil before [Authorize.Provision].
func (c *Authorize) Template() *URITemplate { return c.template }
