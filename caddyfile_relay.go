package caddysse

import (
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

func (h *Handler) parseRelay(d *caddyfile.Dispenser) error {
	if urls := d.RemainingArgs(); len(urls) > 0 {
		return h.parseStanding(d, urls)
	}
	p := relayParser{new(relay.Config)}
	h.Relay = p.Config
	return parseChecked(d, "relay", p.Config, options{
		"format":        word((*string)(&p.Format)),
		"event":         word(&p.Event),
		"select":        word(&p.Select),
		"complete":      word(&p.Complete),
		"share":         flag(&p.Share),
		"replay":        replay(&p.Replay, &p.ReplayLast),
		"detach":        p.parseDetach,
		"keep":          duration(&p.Keep),
		"resume_event":  word(&p.ResumeEvent),
		"max_ahead":     size(&p.MaxAhead),
		"max_event":     size(&p.MaxEvent),
		"max_request":   size(&p.MaxRequest),
		"max_responses": count(&p.MaxResponses),

		"max_responses_per_client": count(&p.MaxResponsesPerClient),
	}, (*relay.Config).Validate)
}

// relayParser parses the options of a relay that have a syntax of their own.
type relayParser struct{ *relay.Config }

// replay parses what a viewer or subscriber first gets of earlier events.
func replay(how *string, last *int) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) == 2 && args[0] == replayLast {
			n, err := strconv.Atoi(args[1])
			if err != nil || n <= 0 {
				return d.Errf("replay last %q is no whole number above zero", args[1])
			}
			*last, args = n, args[:1]
		}
		if len(args) != 1 {
			return d.Errf("replay takes all, last and a number, or none, got %q", strings.Join(args, " "))
		}
		*how = args[0]
		return nil
	}
}

// parseDetach turns zero into a negative duration: in JSON, zero is the default.
func (p relayParser) parseDetach(d *caddyfile.Dispenser) error {
	return converted(func(d *caddyfile.Dispenser, option, value string) error {
		if parsed, err := caddy.ParseDuration(value); err == nil && parsed == 0 {
			p.Detach = -1
			return nil
		}
		return setDuration(d, option, value, &p.Detach)
	})(d)
}

// parseStanding parses the block of `relay` with URLs.
func (h *Handler) parseStanding(d *caddyfile.Dispenser, urls []string) error {
	c := &relay.StandingConfig{URLs: urls}
	h.Feeds = c
	return parseChecked(d, "relay with URLs", c, options{
		"topic":     word(&c.Topic),
		"header_up": parseHeader(&c.Headers),
		"format":    word((*string)(&c.Format)),
		"event":     word(&c.Event),
		"select":    word(&c.Select),
		"replay":    replay(&c.Replay, &c.ReplayLast),
		"timeout":   duration(&c.Timeout),
		"max_event": size(&c.MaxEvent),
	}, (*relay.StandingConfig).Validate)
}

// parseHeader parses the name and the value of a header, which may be a secret: no
// error shows it.
func parseHeader(headers *map[string]string) func(d *caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) != 2 || args[1] == "" {
			return d.Errf("header_up takes a name and a value: write for example header_up Authorization \"Bearer {env.FEED_TOKEN}\"")
		}
		name := http.CanonicalHeaderKey(args[0])
		if _, twice := (*headers)[name]; twice {
			return d.Errf("header_up %s stands twice: use one line", name)
		}
		set := maps.Clone(*headers) // parseChecked compares with the map before
		if set == nil {
			set = make(map[string]string)
		}
		set[name] = args[1]
		*headers = set
		return nil
	}
}
