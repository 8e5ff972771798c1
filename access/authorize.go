package access

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Authorize asks the backend whether a subscriber may read the topics of a
// stream.
type Authorize struct {
	// The URI of the authorization check: a GET request through the following
	// handlers with the subscriber's credentials. The path's segments and the
	// parameters' values may contain placeholders. A 2xx response admits the
	// subscriber. After a failure (408, 425, 429, 5xx) the stream waits. The
	// subscriber gets any other response as its own. The module makes one check
	// for each topic of a stream. Required.
	URI string `json:"uri"`

	// Repeats the check while a stream is open, after a random time between half
	// of this interval and all of it. A refusal ends the stream. At least 1s.
	// Default: 0, which means only one check, before the stream begins.
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
