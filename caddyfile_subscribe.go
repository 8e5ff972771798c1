package caddysse

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/access"
)

// parseMaxStreams parses one limit. The option may occur once for each kind of
// limit.
func (h *Handler) parseMaxStreams(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("max_streams needs a count: write for example max_streams 1000, or max_streams 10 per client")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n <= 0 {
		return d.Errf("max_streams %q is no whole number above zero: write for example max_streams 1000, or max_streams 10 per client", args[0])
	}
	if h.MaxStreams == nil {
		h.MaxStreams = new(access.Limits)
	}
	kind := strings.Join(args[1:], " ")
	limit, ok := map[string]*int{
		"":           &h.MaxStreams.Rule,
		"per client": &h.MaxStreams.PerClient,
		"per user":   &h.MaxStreams.PerUser,
	}[kind]
	switch {
	case !ok:
		return d.Errf("max_streams %d %s is unknown: write a count alone, or with `per client` or `per user`", n, kind)
	case *limit != 0:
		return d.Errf("max_streams stands twice for the same: use one line for each of the rule, `per client` and `per user`")
	}
	*limit = n
	return nil
}

// parseHeartbeat parses the interval, and the name of the event if there is one.
func (h *Handler) parseHeartbeat(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("heartbeat takes a duration, and perhaps the name of an event: write for example heartbeat 15s, or heartbeat 15s ping")
	}
	if len(args) == 2 {
		if args[1] == "" {
			return d.Errf("heartbeat needs a name for its event, such as ping, or none")
		}
		h.HeartbeatEvent = args[1]
	}
	return setDuration(d, "heartbeat", args[0], &h.Heartbeat)
}

func (h *Handler) parseAuthorize(d *caddyfile.Dispenser) error {
	h.Authorize = new(access.Authorize)
	if err := word(&h.Authorize.URI)(d); err != nil {
		return err
	}
	return parseChecked(d, "authorize", h.Authorize, options{
		"recheck": duration(&h.Authorize.Recheck),
	}, (*access.Authorize).Validate)
}
