package caddysse

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func (h *Handler) parsePoll(d *caddyfile.Dispenser) error {
	p := pollParser{new(poll.Config), h.namedMatcher}
	h.Poll = p.Config
	if args := d.RemainingArgs(); len(args) > 1 {
		return d.Errf("poll takes an interval, got %s", strings.Join(args, " "))
	} else if len(args) == 1 {
		if err := setDuration(d, "poll", args[0], &p.Interval); err != nil {
			return err
		}
	}
	return parseChecked(d, "poll", p.Config, options{
		"max":            duration(&p.Max),
		"timeout":        duration(&p.Timeout),
		"linger":         p.parseLinger,
		"send":           p.parseSend,
		"first":          word(&p.First),
		"select":         p.parseSelect,
		"ignore_text":    words(&p.IgnoreText),
		"until":          word(&p.Until),
		"expect":         word(&p.Expect),
		"gone_after":     p.parseGoneAfter,
		"wait":           flag(&p.Wait),
		"event":          word(&p.Event),
		"vary":           words(&p.Vary),
		"cookie_jar":     word(&p.CookieJar),
		"ignore":         words(&p.Ignore),
		"share":          p.parseShare,
		"accept":         p.parseAccept,
		"absorb":         flag(&p.Absorb),
		"method":         word(&p.Method),
		"body":           word(&p.Body),
		"max_request":    size(&p.MaxRequest),
		"refresh":        p.parseRefresh,
		"ignore_max_age": flag(&p.IgnoreMaxAge),
		"max_body":       size(&p.MaxBody),
		"max_memory":     size(&p.MaxMemory),
		"max_views":      count(&p.MaxViews),
		"max_in_flight":  count(&p.MaxInFlight),

		"max_views_per_client": count(&p.MaxViewsPerClient),
		"check_addresses":      p.parseCheckAddresses,
	}, (*poll.Config).Validate)
}

// pollParser parses the options of a poll that have a syntax of their own.
type pollParser struct {
	*poll.Config
	namedMatcher func(*caddyfile.Dispenser) (caddy.ModuleMap, error)
}

func (p pollParser) parseShare(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
		p.Share = "checked"
	case len(args) == 1 && args[0] == "unchecked":
		p.Share = args[0]
	default:
		return d.Errf("share %s is unknown: write `share`, or `share unchecked` to skip the check of each viewer", strings.Join(args, " "))
	}
	return nil
}

func (p pollParser) parseCheckAddresses(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 0:
		p.CheckAddresses = "on"
	case len(args) == 1 && (args[0] == "on" || args[0] == "off"):
		p.CheckAddresses = args[0]
	default:
		return d.Errf("check_addresses %s is unknown: write `check_addresses on`, or `check_addresses off`", strings.Join(args, " "))
	}
	return nil
}

func (p pollParser) parseSelect(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 2 && args[0] == "css":
		p.SelectCSS = args[1]
		return nil
	case len(args) == 1 && args[0] == "css":
		return d.Err("select css needs a selector: put it in quotes, since # begins a comment")
	case len(args) == 1 && args[0] != "":
		p.Select = args[0]
		return nil
	default:
		return d.Errf("select takes a jq program, or css and a selector, got %d arguments: put each in backticks", len(args))
	}
}

func (p pollParser) parseSend(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch len(args) {
	case 2:
		p.SendArgument = args[1]
		fallthrough
	case 1:
		p.Send = args[0]
		return nil
	default:
		return d.Errf("send takes a way to tell changes and what it needs, got %d arguments: a jq program is put in backticks", len(args))
	}
}

// parseAccept parses media types, each an argument of its own or in lists.
func (p pollParser) parseAccept(d *caddyfile.Dispenser) error {
	var types []string
	if err := words(&types)(d); err != nil {
		return err
	}
	for i, t := range types {
		types[i] = strings.TrimRight(t, ", ")
	}
	p.Accept = strings.Join(types, ", ")
	return nil
}

// parseGoneAfter accepts zero, which is the default.
func (p pollParser) parseGoneAfter(d *caddyfile.Dispenser) error {
	return converted(func(d *caddyfile.Dispenser, option, value string) error {
		if parsed, err := caddy.ParseDuration(value); err == nil && parsed == 0 {
			return nil
		}
		return setDuration(d, option, value, &p.GoneAfter)
	})(d)
}

// parseLinger turns zero into a negative duration: in JSON, zero is the default.
func (p pollParser) parseLinger(d *caddyfile.Dispenser) error {
	var value string
	if err := word(&value)(d); err != nil {
		return err
	}
	linger, err := caddy.ParseDuration(value)
	if err == nil && linger == 0 {
		p.Linger = -1
		return nil
	}
	return setDuration(d, "linger", value, &p.Linger)
}
