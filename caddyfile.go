package caddysse

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/caddy-sse/caddy-sse/upstream/change"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("sse", parseGlobal)
	httpcaddyfile.RegisterDirective("sse", parseDirective)
	// After authentication and rewrites, before what answers requests.
	httpcaddyfile.RegisterDirectiveOrder("sse", httpcaddyfile.After, "encode")
}

// parseGlobal adds a hub to those of the options before.
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if before, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(before.Value, app); err != nil {
			return nil, err
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "sse", Value: caddyconfig.JSON(app, nil)}, nil
}

// parseDirective makes the route of a rule, and one that has an eye on writes
// to other paths which concern it.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive's name
	handler := new(Handler)
	if h.NextArg() {
		handler.Name = h.Val() // unless the block says otherwise
		h.Prev()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	routes := h.NewRoute(matcher, handler)
	if handler.Poll != nil && len(handler.Poll.Refresh) > 0 {
		paths := make(caddyhttp.MatchPath, 0, 2*len(handler.Poll.Refresh))
		for _, path := range handler.Poll.Refresh {
			paths = append(paths, path, strings.TrimSuffix(path, "/")+"/*")
		}
		matcher := caddy.ModuleMap{"path": h.JSON(paths)}
		routes = append(routes, h.NewRoute(matcher, &Handler{Name: handler.Name, Hub: handler.Hub, Observe: true})...)
	}
	return routes, nil
}

// UnmarshalCaddyfile adds the hub of one global option:
//
//	sse [<hub>] {
//		store   memory | file <dir> { damaged refuse | replace }
//		history <count> | <duration> | <size> ...
//		drain   <duration>
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	name := defaultHub
	switch args := d.RemainingArgs(); len(args) {
	case 0:
	case 1:
		name = args[0]
	default:
		return d.Errf("sse takes the name of one hub, got %s", strings.Join(args, " "))
	}
	if a.Hubs[name] != nil {
		return d.Errf("hub %s is configured twice", name)
	}
	config := new(HubConfig)
	if a.Hubs == nil {
		a.Hubs = make(map[string]*HubConfig)
	}
	a.Hubs[name] = config
	return parseBlock(d, "sse", options{
		"store":   config.parseStore,
		"history": config.parseHistory,
		"drain":   duration(&config.Drain),
	})
}

func (c *HubConfig) parseStore(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("store needs a kind: write `store memory` or `store file <dir>`")
	}
	kind := d.Val()
	info, err := caddy.GetModule("sse.stores." + kind)
	if err != nil {
		return d.Errf("unknown store %q: want one of %s", kind, strings.Join(storeNames(), ", "))
	}
	opener := info.New()
	if unmarshaler, ok := opener.(caddyfile.Unmarshaler); ok {
		if err := unmarshaler.UnmarshalCaddyfile(d.NewFromNextSegment()); err != nil {
			return err
		}
	} else if d.NextArg() {
		return d.Errf("store %s takes no more arguments, got %s", kind, d.Val())
	}
	c.StoreRaw = caddyconfig.JSONModuleObject(opener, "type", kind, nil)
	return nil
}

func storeNames() []string {
	var names []string
	for _, info := range caddy.GetModules("sse.stores") {
		names = append(names, info.ID.Name())
	}
	return names
}

// parseHistory takes up to three bounds and tells them apart by their units.
func (c *HubConfig) parseHistory(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("history needs a bound: a count, a duration or a size, such as 10000 24h 256MiB")
	}
	c.History = new(History)
	for _, arg := range args {
		if err := c.History.parseBound(d, arg); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) parseBound(d *caddyfile.Dispenser, arg string) error {
	var twice, zero bool
	if n, err := strconv.Atoi(arg); err == nil {
		twice, zero = h.MaxEvents != 0, n <= 0
		h.MaxEvents = n
	} else if age, err := caddy.ParseDuration(arg); err == nil {
		twice, zero = h.MaxAge != 0, age <= 0
		h.MaxAge = caddy.Duration(age)
	} else if size, err := humanize.ParseBytes(arg); err == nil {
		twice, zero = h.MaxBytes != 0, size == 0
		h.MaxBytes = int64(size)
	} else {
		return d.Errf("history %q is no count, duration or size: write for example 10000 24h 256MiB", arg)
	}
	switch {
	case zero:
		return d.Errf("history %q: want more than zero", arg)
	case twice:
		return d.Errf("history %q: there is a bound of this kind already", arg)
	}
	return nil
}

// UnmarshalCaddyfile parses a rule:
//
//	sse [<matcher>] {
//		poll [<interval>] {
//			max            <duration>
//			timeout        <duration>
//			linger         <duration>
//			send           full | patch | merge | items <key> | jq <program>
//			select         <jq>
//			until          <jq>
//			event          <template>
//			vary           <header>... | none
//			share          [unchecked]
//			refresh        <path>... | off
//			ignore_max_age
//			absorb
//			method         GET | POST
//			max_request    <size>
//			max_body       <size>
//			max_views      <count>
//			max_in_flight  <count>
//
//			max_views_per_client <count>
//		}
//		webhook {
//			verify <sender> <secret>... {
//				header    <name>
//				algorithm sha256 | sha384 | sha512 | sha1
//				encoding  hex | base64
//				prefix    <text>
//				signed    <template>
//				timestamp <header>
//				tolerance <duration>
//				url       <template>
//				challenge <secret>...
//				hosts     <host>...
//			}
//			verify token <header> <secret>... {
//				prefix <text>
//			}
//			verify basic <user> <hash>...
//			verify sns <topic>...
//			verify none
//			topic    <template>...
//			event    <template>
//			id       <template>
//			split    <jq>
//			when     <jq>
//			select   <jq>
//			data     <template>
//			refresh  <uri template>...
//			max_body <size>
//			dedupe   <count> | <duration> ... | off
//			forward  [async [<duration>]]
//		}
//		publish {
//			token    <secret>...
//			jwt {
//				(as below)
//			}
//			max_body <size>
//		}
//		jwt {
//			key      <secret>...
//			pem      <file>...
//			jwks     <url>
//			cookie   <name>
//			query    <name>
//			claim    <name>
//			issuer   <iss>
//			audience <aud>...
//		}
//		name      <name>
//		hub       <name>
//		topic     <template>...
//		allow     <pattern>...
//		cors      <origin>...
//		heartbeat <duration>
//		retry     <duration>
//		max_age   <duration>
//
//		envelope
//		max_streams <count> [per client | per user]
//		authorize   <uri> {
//			recheck <duration>
//		}
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("sse takes a matcher and a block, not %q: a matcher begins with / or @", d.Val())
	}
	return parseBlock(d, "sse", options{
		"poll":      h.parsePoll,
		"webhook":   h.parseWebhook,
		"publish":   h.parsePublish,
		"jwt":       jwt(&h.JWT),
		"name":      word(&h.Name),
		"hub":       word(&h.Hub),
		"topic":     words(&h.Topics),
		"allow":     words(&h.Allow),
		"cors":      words(&h.CORS),
		"heartbeat": duration(&h.Heartbeat),
		"retry":     duration(&h.Retry),
		"max_age":   duration(&h.MaxAge),

		"authorize":   h.parseAuthorize,
		"envelope":    flag(&h.Envelope),
		"max_streams": h.parseMaxStreams,
	})
}

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
	if _, err := change.New(h.Poll.Send, h.Poll.SendArgument); err != nil {
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

func (h *Handler) parseWebhook(d *caddyfile.Dispenser) error {
	h.Webhook = new(webhook.Webhook)
	if d.NextArg() {
		return d.Errf("webhook takes only a block, got %q", d.Val())
	}
	return parseBlock(d, "webhook", options{
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
	})
}

// parseDedupe takes a count, a duration, or both, in any order.
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

// parseForward takes the way to pass on, and how long it is tried.
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
	// These two have a name before their secrets.
	for sender, name := range map[string]*string{"token": &v.Header, "basic": &v.User} {
		if v.Sender == sender && len(v.Secrets) > 0 {
			*name, v.Secrets = v.Secrets[0], v.Secrets[1:]
		}
	}
	return parseBlock(d, "verify", options{
		"header":    word(&v.Header),
		"algorithm": word(&v.Algorithm),
		"encoding":  word(&v.Encoding),
		"prefix":    word(&v.Prefix),
		"signed":    word(&v.Signed),
		"timestamp": word(&v.Timestamp),
		"tolerance": duration(&v.Tolerance),
		"url":       word(&v.URL),
		"challenge": words(&v.Challenge),
		"hosts":     words(&v.Hosts),
	})
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)
