package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/jq"
)

// mapping is a template for a field that an event may go without. One that
// comes from the sender's kind, and not from the rule, is lenient: a body that
// doesn't fit it leaves the field out.
type mapping struct {
	*mapped
	lenient bool
}

// Validate checks the configuration without resolving placeholders: a secret
// that holds one passes. It returns an error for everything that is wrong
// whatever the placeholders stand for. It changes nothing, so that a Caddyfile's
// parser can call it.
func (wh *Webhook) Validate() error {
	unused := *wh
	return unused.provision(literal)
}

// Provision checks the configuration and compiles it. It resolves the
// placeholders in secrets by repl.
func (wh *Webhook) Provision(repl *caddy.Replacer) error {
	return wh.provision(replacing(repl))
}

func (wh *Webhook) provision(resolve resolver) error {
	if wh.MaxBody < 0 {
		return fmt.Errorf("max_body is %d bytes: want a positive number, or none for the default", wh.MaxBody)
	}
	if wh.Verify == nil {
		return errors.New("a webhook must say how it is verified: write `verify <sender> <secret>`, or `verify none` if anyone may send")
	}
	if err := wh.checkForward(); err != nil {
		return err
	}
	sender, err := wh.Verify.provision(resolve)
	if err != nil {
		return err
	}
	wh.sender = sender
	if err := wh.compile(); err != nil {
		return err
	}
	return wh.compilePrograms()
}

// checkForward checks what becomes of a request beside its event.
func (wh *Webhook) checkForward() error {
	d := wh.Dedupe
	switch {
	case d != nil && (d.MaxCount < 0 || d.MaxAge < 0):
		return errors.New("dedupe can't be negative: write `dedupe off` to remember nothing")
	case d != nil && d.Off && (d.MaxCount != 0 || d.MaxAge != 0):
		return errors.New("dedupe is off and has a bound: leave one of them out")
	case wh.Forward != "" && wh.Forward != ForwardSync && wh.Forward != ForwardAsync:
		return fmt.Errorf("forward is %q: want %q or %q", wh.Forward, ForwardSync, ForwardAsync)
	case wh.ForwardFor < 0:
		return fmt.Errorf("forward_for is %v: want a positive duration", time.Duration(wh.ForwardFor))
	case wh.ForwardFor > 0 && wh.Forward != ForwardAsync:
		return errors.New("only what is passed on in the background is tried again: write `forward async 24h`, or leave out how long")
	}
	return nil
}

func (wh *Webhook) compile() (err error) {
	if wh.Select != "" && wh.Data != "" {
		return errors.New("select and data both say what is sent: use one of them")
	}
	if wh.topics, err = compileTopics(wh.Topics); err != nil {
		return err
	}
	if wh.ownTopic, err = compileTemplate("topic", wh.sender.topic); err != nil {
		return err
	}
	if wh.event, err = compileMapping("event", wh.Event, wh.sender.event); err != nil {
		return err
	}
	if wh.id, err = compileMapping("id", wh.ID, wh.sender.id); err != nil {
		return err
	}
	if wh.refresh, err = compileViews(wh.Refresh); err != nil {
		return err
	}
	wh.data, err = compileTemplate("data", wh.Data)
	return err
}

func (wh *Webhook) compilePrograms() (err error) {
	for _, p := range []struct {
		field, src string
		program    **jq.Program
	}{
		{"split", cmp.Or(wh.Split, wh.sender.split), &wh.split},
		{"when", wh.When, &wh.when},
		{"select", wh.Select, &wh.program},
	} {
		*p.program = nil
		if p.src == "" {
			continue
		}
		if *p.program, err = jq.Compile(p.src); err != nil {
			return fmt.Errorf("%s: %w", p.field, err)
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
