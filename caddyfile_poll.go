package caddysse

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func (h *Handler) parsePoll(d *caddyfile.Dispenser) error {
	h.Poll = new(poll.Config)
	if args := d.RemainingArgs(); len(args) > 1 {
		return d.Errf("poll takes an interval, got %s", strings.Join(args, " "))
	} else if len(args) == 1 {
		if err := setDuration(d, "poll", args[0], &h.Poll.Interval); err != nil {
			return err
		}
	}
	return parseBlock(d, "poll", options{
		"max":            duration(&h.Poll.Max),
		"timeout":        duration(&h.Poll.Timeout),
		"linger":         h.parseLinger,
		"send":           h.parseSend,
		"select":         word(&h.Poll.Select),
		"until":          word(&h.Poll.Until),
		"event":          word(&h.Poll.Event),
		"vary":           words(&h.Poll.Vary),
		"share":          h.parseShare,
		"absorb":         flag(&h.Poll.Absorb),
		"method":         word(&h.Poll.Method),
		"max_request":    size(&h.Poll.MaxRequest),
		"refresh":        h.parseRefresh,
		"ignore_max_age": flag(&h.Poll.IgnoreMaxAge),
		"max_body":       size(&h.Poll.MaxBody),
		"max_views":      count(&h.Poll.MaxViews),
		"max_in_flight":  count(&h.Poll.MaxInFlight),

		"max_views_per_client": count(&h.Poll.MaxViewsPerClient),
	})
}

func (h *Handler) parseShare(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
		h.Poll.Share = "checked"
	case len(args) == 1 && args[0] == "unchecked":
		h.Poll.Share = args[0]
	default:
		return d.Errf("share %s is unknown: write `share`, or `share unchecked` to let in whoever comes", strings.Join(args, " "))
	}
	return nil
}

func (h *Handler) parseSend(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch len(args) {
	case 2:
		h.Poll.SendArgument = args[1]
		fallthrough
	case 1:
		h.Poll.Send = args[0]
	default:
		return d.Errf("send takes a way to tell changes and what it needs, got %d arguments: a jq program is put in backticks", len(args))
	}
	if _, err := diff.NewMode(h.Poll.Send, h.Poll.SendArgument); err != nil {
		return d.Errf("%v", err)
	}
	return nil
}

func (h *Handler) parseRefresh(d *caddyfile.Dispenser) error {
	var args []string
	if err := words(&args)(d); err != nil {
		return err
	}
	if h.Poll.RefreshOff = len(args) == 1 && args[0] == "off"; !h.Poll.RefreshOff {
		h.Poll.Refresh = args
	}
	return nil
}

// parseLinger lets zero mean what it says.
func (h *Handler) parseLinger(d *caddyfile.Dispenser) error {
	var value string
	if err := word(&value)(d); err != nil {
		return err
	}
	linger, err := caddy.ParseDuration(value)
	if err == nil && linger == 0 {
		h.Poll.Linger = -1
		return nil
	}
	return setDuration(d, "linger", value, &h.Poll.Linger)
}
