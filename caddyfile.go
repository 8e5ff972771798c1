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
)

func init() {
	httpcaddyfile.RegisterGlobalOption("sse", parseGlobal)
	httpcaddyfile.RegisterDirective("sse", parseDirective)
	// After authentication and rewrites, before handlers that respond.
	httpcaddyfile.RegisterDirectiveOrder("sse", httpcaddyfile.After, "encode")
}

// parseGlobal parses the global option and adds its hub to those of earlier ones.
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

// parseDirective returns the route of a rule and routes that observe the writes
// which the rule's `refresh` names.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive's name
	handler := &Handler{namedMatcher: namedMatchers(h)}
	if h.NextArg() {
		handler.Name = h.Val() // unless the block names the rule
		h.Prev()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	hubs, err := configuredHubs(h)
	if err != nil {
		return nil, err
	}
	if err := handler.parse(h.Dispenser, hubs); err != nil {
		return nil, err
	}
	routes := h.NewRoute(matcher, handler)
	if handler.Poll != nil {
		for _, matcher := range observedBy(h, handler.Poll) {
			routes = append(routes, h.NewRoute(matcher, &Handler{Name: handler.Name, Hub: handler.Hub, Observe: true})...)
		}
	}
	return routes, nil
}

func pathsBelow(paths []string) caddyhttp.MatchPath {
	matcher := make(caddyhttp.MatchPath, 0, 3*len(paths))
	for _, path := range paths {
		matcher = append(matcher, path, strings.TrimSuffix(path, "/")+"/*")
		if strings.Trim(path, "/") != "" { // with a suffix for the format
			matcher = append(matcher, strings.TrimSuffix(path, "/")+".*")
		}
	}
	return matcher
}

// configuredHubs returns the hubs of the global options, which Caddy parses first.
func configuredHubs(h httpcaddyfile.Helper) (map[string]*HubConfig, error) {
	app := App{Hubs: map[string]*HubConfig{defaultHub: nil}}
	if configured, ok := h.Option("sse").(httpcaddyfile.App); ok {
		if err := json.Unmarshal(configured.Value, &app); err != nil {
			return nil, err
		}
	}
	return app.Hubs, nil
}

// UnmarshalCaddyfile parses one global option and adds its hub:
//
//	sse [<hub>] {
//		store   memory | file <dir> { damaged refuse | replace } | nats <url>... | redis <address>...
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
	return parseChecked(d, "sse", config, options{
		"store":   config.parseStore,
		"history": config.parseHistory,
		"drain":   duration(&config.Drain),
	}, func(c *HubConfig) error { return c.validateStore(name) })
}

// validateStore checks the name of the store's file.
func (c *HubConfig) validateStore(hub string) error {
	var store struct {
		Type string `json:"type"`
	}
	if c.StoreRaw == nil {
		return nil
	}
	if err := json.Unmarshal(c.StoreRaw, &store); err != nil {
		return err
	}
	if store.Type != "file" {
		return nil
	}
	return checkFileName(hub)
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

// parseHistory parses up to three bounds, which their units distinguish.
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
//			refresh        [only] <path>|<METHOD>|@<matcher>...
//			refresh        off [<path>|<METHOD>|@<matcher>...]
//			ignore_max_age
//			absorb
//			method         GET | POST
//			body           <text>
//			max_request    <size>
//			max_body       <size>
//			max_memory     <size>
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
//		relay {
//			format       sse | ndjson | json-seq | json | multipart | lines
//			event        <template>
//			select       <jq>
//			complete     <jq>
//			share
//			replay       all | last <count> | none
//			detach       <duration>
//			keep         <duration>
//			resume_event <name>
//			max_ahead    <size>
//			max_event    <size>
//			max_request  <size>
//
//			max_responses            <count>
//			max_responses_per_client <count>
//		}
//		multiplex {
//			max_urls <count>
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
//		heartbeat <duration> [<event>]
//		retry     <duration>
//		max_age   <duration>
//		encode    gzip
//
//		envelope
//		replay    all | last <count> | none
//		shutdown_event
//		max_streams <count> [per client | per user]
//		authorize   <uri> {
//			recheck <duration>
//		}
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return h.parse(d, nil) }

// parse parses a rule. It refuses a hub that is not among the configured ones,
// unless these are nil.
func (h *Handler) parse(d *caddyfile.Dispenser, hubs map[string]*HubConfig) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("sse takes a matcher and a block, not %q: a matcher begins with / or @", d.Val())
	}
	known := options{
		"jwt":       jwt(&h.JWT),
		"name":      word(&h.Name),
		"hub":       word(&h.Hub),
		"allow":     words(&h.Allow),
		"cors":      words(&h.CORS),
		"heartbeat": h.parseHeartbeat,
		"retry":     duration(&h.Retry),
		"max_age":   duration(&h.MaxAge),
		"encode":    words(&h.Encode),

		"authorize":      h.parseAuthorize,
		"envelope":       flag(&h.Envelope),
		"max_streams":    h.parseMaxStreams,
		"replay":         replay(&h.Replay, &h.ReplayLast),
		"shutdown_event": flag(&h.ShutdownEvent),
	}
	for _, k := range kinds {
		if k.parse != nil {
			known[k.option] = func(d *caddyfile.Dispenser) error { return k.parse(h, d) }
		}
	}
	return parseChecked(d, "sse", h, known, func(h *Handler) error {
		if _, err := findKind(h); err != nil {
			return err
		}
		if _, ok := hubs[h.Hub]; !ok && h.Hub != "" && hubs != nil {
			return errNoHub(h.Hub)
		}
		return nil
	})
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)
