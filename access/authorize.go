package access

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Authorize has the backend asked whether a viewer may watch what they ask for.
type Authorize struct {
	// What the backend is asked for as the viewer, with their credentials and
	// through the handlers that follow: a path, with placeholders for single
	// segments of it and for values of parameters. An answer of 2xx lets the
	// viewer in; any other but a failure is their answer. It is asked for
	// each of the topics that a stream is to watch. Required.
	URI string `json:"uri"`

	// The time, at most, after which the backend is asked again while the
	// stream is open, which ends when the answer is a refusal. Each time is
	// a random one of the second half. At least 1s. Default, and what zero
	// means: it is asked when a stream opens, and then no more.
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

// Template is what the URIs are made of. Provision must have been called.
func (c *Authorize) Template() *URITemplate { return c.template }
