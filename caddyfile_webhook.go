package caddysse

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func (h *Handler) parseWebhook(d *caddyfile.Dispenser) error {
	h.Webhook = new(webhook.Webhook)
	if d.NextArg() {
		return d.Errf("webhook takes only a block: write `webhook { verify github {env.GITHUB_SECRET} }`, a line for each option") // the argument may be a secret
	}
	return parseChecked(d, "webhook", h.Webhook, options{
		"verify":   h.parseVerify,
		"topic":    words(&h.Webhook.Topics),
		"event":    word(&h.Webhook.Event),
		"id":       word(&h.Webhook.ID),
		"split":    word(&h.Webhook.Split),
		"when":     word(&h.Webhook.When),
		"select":   word(&h.Webhook.Select),
		"data":     word(&h.Webhook.Data),
		"refresh":  words(&h.Webhook.Refresh),
		"max_body": size(&h.Webhook.MaxBody),
		"dedupe":   h.parseDedupe,
		"forward":  h.parseForward,
	}, (*webhook.Webhook).Validate)
}

// parseDedupe parses a count, a duration, or both, in any order.
func (h *Handler) parseDedupe(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	dedupe := new(webhook.Dedupe)
	h.Webhook.Dedupe = dedupe
	if len(args) == 1 && args[0] == "off" {
		dedupe.Off = true
		return nil
	}
	if len(args) == 0 {
		return d.Errf("dedupe needs a bound: a count, a duration or both, such as 100000 24h, or off")
	}
	for _, arg := range args {
		n, err := strconv.Atoi(arg)
		age, ageErr := caddy.ParseDuration(arg)
		switch {
		case err == nil && n > 0 && dedupe.MaxCount == 0:
			dedupe.MaxCount = n
		case err != nil && ageErr == nil && age > 0 && dedupe.MaxAge == 0:
			dedupe.MaxAge = caddy.Duration(age)
		default:
			return d.Errf("dedupe %q is no count or duration above zero, or the second of its kind: write for example 100000 24h", arg)
		}
	}
	return nil
}

// parseForward parses how deliveries are forwarded and how long they are retried.
func (h *Handler) parseForward(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		h.Webhook.Forward = webhook.ForwardSync
		return nil
	case args[0] != webhook.ForwardAsync || len(args) > 2:
		return d.Errf("forward %s is unknown: write `forward`, or `forward async 24h` to try for so long in the background", strings.Join(args, " "))
	}
	h.Webhook.Forward = webhook.ForwardAsync
	if len(args) == 2 {
		return setDuration(d, "forward async", args[1], &h.Webhook.ForwardFor)
	}
	return nil
}

func (h *Handler) parseVerify(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("verify needs a sender and its secret, such as `verify github {env.GITHUB_SECRET}`; `verify none` lets anyone send")
	}
	v := &webhook.Verify{Sender: args[0], Secrets: args[1:]}
	h.Webhook.Verify = v
	// These senders have a name before the secrets.
	for sender, name := range map[string]*string{"token": &v.Header, "basic": &v.User} {
		if v.Sender == sender && len(v.Secrets) > 0 {
			*name, v.Secrets = v.Secrets[0], v.Secrets[1:]
		}
	}
	return parseChecked(d, "verify", v, options{
		"header":    word(&v.Header),
		"algorithm": word(&v.Algorithm),
		"encoding":  word(&v.Encoding),
		"prefix":    word(&v.Prefix),
		"separator": word(&v.Separator),
		"key":       word(&v.Key),
		"signed":    word(&v.Signed),
		"timestamp": word(&v.Timestamp),

		"timestamp_prefix": word(&v.TimestampPrefix),

		"tolerance": duration(&v.Tolerance),
		"url":       word(&v.URL),
		"challenge": words(&v.Challenge),
		"hosts":     words(&v.Hosts),
	}, (*webhook.Verify).Validate)
}
