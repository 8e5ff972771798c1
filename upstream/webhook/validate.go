package webhook

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Validate checks the configuration without resolving placeholders: a secret
// that holds one passes. It returns an error for every mistake that doesn't
// depend on the values of placeholders. It changes nothing, so that a Caddyfile
// parser can call it.
func (wh *Webhook) Validate() error {
	unused := *wh
	return unused.provision(literal)
}

// Provision checks the configuration and compiles it. It resolves the
// placeholders in secrets with repl.
func (wh *Webhook) Provision(repl *caddy.Replacer) error {
	return wh.provision(replacing(repl))
}

func (wh *Webhook) provision(resolve resolver) (err error) {
	if wh.MaxBody < 0 {
		return fmt.Errorf("max_body is %d bytes: want a positive number, or none for the default", wh.MaxBody)
	}
	if wh.Verify == nil {
		return errors.New("a webhook must say how it is verified: write `verify <sender> <secret>`, or `verify none` if anyone may send")
	}
	if err := wh.validateDedupe(); err != nil {
		return err
	}
	if err := wh.validateForward(); err != nil {
		return err
	}
	if wh.verifier, err = wh.Verify.provision(resolve); err != nil {
		return err
	}
	wh.mapper, err = newMapper(wh, wh.verifier.sender)
	return err
}

func (wh *Webhook) validateDedupe() error {
	d := wh.Dedupe
	switch {
	case d == nil:
		return nil
	case d.MaxCount < 0 || d.MaxAge < 0:
		return errors.New("dedupe can't be negative: write `dedupe off` to remember nothing")
	case d.Off && (d.MaxCount != 0 || d.MaxAge != 0):
		return errors.New("dedupe is off and has a limit: leave one of them out")
	}
	return nil
}

func (wh *Webhook) validateForward() error {
	switch {
	case wh.Forward != "" && wh.Forward != ForwardSync && wh.Forward != ForwardAsync:
		return fmt.Errorf("forward is %q: want %q or %q", wh.Forward, ForwardSync, ForwardAsync)
	case wh.ForwardFor < 0:
		return fmt.Errorf("forward_for is %v: want a positive duration", time.Duration(wh.ForwardFor))
	case wh.ForwardFor > 0 && wh.Forward != ForwardAsync:
		return errors.New("forward_for needs forward async: write `forward async 24h`, or leave the duration out")
	}
	return nil
}
