package caddysse

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// place is where a rule stands in the configuration. Rules with equal options
// differ in their places, and so do their clients. A place is the same after a
// reload if none of its parts has changed.
type place struct {
	// routes is a digest of the addresses on which the rule's server listens, and
	// of the matchers of all routes around the rule, from the outside in.
	routes string

	// passed is a digest of all else that decides which requests reach the rule,
	// and how: the handlers that they pass before it, the conditions under which
	// they go elsewhere, and the server's options about clients.
	passed string

	// addressDecides is true if a handler or matcher behind the rule may refuse a
	// client because of its address.
	addressDecides bool

	// host is the first host that the matchers around the rule name; empty if they
	// name none.
	host string
}

// newPlace returns a place that no other configuration has.
func newPlace() place { return place{rand.Text(), rand.Text(), true, ""} }

// placeOf returns the place of the rule being provisioned. If that is unknown, it
// returns a new place, and an error that says why. Each rule calls it once: the
// places are in the order in which Caddy provisions the rules.
func (a *App) placeOf(ctx caddy.Context) (place, error) {
	app, server, err := serverAround(ctx)
	if err != nil {
		return newPlace(), err
	}
	places, known := a.places[server]
	if !known {
		if places, err = readPlaces(ctx, app, server); err != nil {
			return newPlace(), err
		}
	}
	if len(places) == 0 {
		return newPlace(), errors.New("the configuration doesn't list it")
	}
	a.places[server] = places[1:]
	if places[0] == nil {
		return newPlace(), errors.New("it handles errors")
	}
	return *places[0], nil
}

// serverAround returns the server whose routes lead to the module being
// provisioned, without a handler of another module in between.
func serverAround(ctx caddy.Context) (*caddyhttp.App, *caddyhttp.Server, error) {
	modules := ctx.Modules()
	isApp := func(m caddy.Module) bool { _, ok := m.(*caddyhttp.App); return ok }
	first := slices.IndexFunc(modules, isApp)
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if first < 0 || !ok {
		return nil, nil, errors.New("it is in no HTTP server's routes")
	}
	for _, m := range modules[first+1 : len(modules)-1] {
		if _, ok := m.(*caddyhttp.Subroute); !ok {
			return nil, nil, fmt.Errorf("it is inside of another handler, %s", m.CaddyModule().ID)
		}
	}
	// Caddy discards a route's raw handlers once it has provisioned them, and
	// provisions these routes first.
	isDue := func(r caddyhttp.Route) bool { return len(r.HandlersRaw) > 0 }
	if !slices.ContainsFunc(server.Routes, isDue) {
		return nil, nil, errors.New("it handles errors or is in a named route")
	}
	return modules[first].(*caddyhttp.App), server, nil
}

// rawApp returns the configuration of an app that is being provisioned. Caddy
// has no method for this. If a later version keeps it elsewhere, the result is
// nil.
func rawApp(ctx caddy.Context, name string) []byte {
	config := reflect.Indirect(reflect.ValueOf(ctx).FieldByName("cfg"))
	if !config.IsValid() || config.Type() != reflect.TypeFor[caddy.Config]() {
		return nil
	}
	raw := config.FieldByName("AppsRaw").MapIndex(reflect.ValueOf(name))
	if !raw.IsValid() {
		return nil
	}
	return raw.Bytes()
}

// readPlaces returns the places of the rules of a server's routes.
func readPlaces(ctx caddy.Context, app *caddyhttp.App, server *caddyhttp.Server) ([]*place, error) {
	var config struct {
		Servers map[string]json.RawMessage `json:"servers"`
	}
	if err := json.Unmarshal(rawApp(ctx, "http"), &config); err != nil {
		return nil, fmt.Errorf("reading Caddy's configuration: %w", err)
	}
	for name, s := range app.Servers {
		if s == server {
			return findPlaces(server.Listen, config.Servers[name])
		}
	}
	return nil, errors.New("the configuration doesn't list its server")
}

// rawServer holds what decides which clients' requests reach a server's rules.
type rawServer struct {
	Routes      []rawRoute      `json:"routes"`
	NamedRoutes json.RawMessage `json:"named_routes"`

	ListenerWrappers     json.RawMessage `json:"listener_wrappers"`
	PacketConnWrappers   json.RawMessage `json:"packet_conn_wrappers"`
	TrustedProxies       json.RawMessage `json:"trusted_proxies"`
	TrustedProxiesStrict json.RawMessage `json:"trusted_proxies_strict"`
	ClientIPHeaders      json.RawMessage `json:"client_ip_headers"`
	StrictSNIHost        json.RawMessage `json:"strict_sni_host"`
	TLS                  []rawTLSPolicy  `json:"tls_connection_policies"`
}

type rawTLSPolicy struct {
	Match                json.RawMessage `json:"match"`
	ClientAuthentication json.RawMessage `json:"client_authentication"`
}

type rawRoute struct {
	Group    string            `json:"group"`
	Match    json.RawMessage   `json:"match"`
	Handle   []json.RawMessage `json:"handle"`
	Terminal bool              `json:"terminal"`
}

type rawSubroute struct {
	Routes []rawRoute `json:"routes"`
	Errors *struct {
		Routes []rawRoute `json:"routes"`
	} `json:"errors"`
}

// findPlaces returns the places of the rules of a server's routes, in the order
// in which Caddy provisions them. The place of a rule that handles errors is nil.
//
// Caddy has sorted the keys of the configuration, so that equal options are equal
// texts.
func findPlaces(listen []string, config json.RawMessage) ([]*place, error) {
	var server rawServer
	if err := json.Unmarshal(config, &server); err != nil {
		return nil, fmt.Errorf("reading the server's configuration: %w", err)
	}
	f := &placeFinder{named: string(server.NamedRoutes), addresses: newAddressFinder(&server)}
	at := &way{routes: []any{listen}, passed: []any{server.clients()}}
	err := f.visit(server.Routes, at)
	return f.places, err
}

// clients returns the options by which the server knows its clients.
func (s *rawServer) clients() []any {
	authenticating := slices.DeleteFunc(s.TLS, func(p rawTLSPolicy) bool { return len(p.ClientAuthentication) == 0 })
	return []any{
		s.ListenerWrappers, s.PacketConnWrappers, s.TrustedProxies, s.TrustedProxiesStrict, s.ClientIPHeaders,
		s.StrictSNIHost, authenticating,
	}
}

// way is how requests get from a server's listeners to a point in its routes.
type way struct {
	routes, passed []any
	handlesErrors  bool
	addressDecides bool // behind that point
	host           string
}

func (w *way) clone() *way {
	return &way{slices.Clone(w.routes), slices.Clone(w.passed), w.handlesErrors, w.addressDecides, w.host}
}

func (w *way) place() *place {
	if w.handlesErrors {
		return nil
	}
	return &place{digest(w.routes), digest(w.passed), w.addressDecides, w.host}
}

func digest(parts []any) string {
	text, err := json.Marshal(parts)
	if err != nil { // impossible: Caddy has read it
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// placeFinder collects the places of the rules of a server.
type placeFinder struct {
	named     string // the server's named routes
	addresses *addressFinder
	places    []*place
}

// visit collects the places in a list of routes.
func (f *placeFinder) visit(routes []rawRoute, to *way) error {
	var before []passedRoute
	decides := make([]bool, len(routes)) // which of the routes decide by address
	for i := range routes {
		decides[i] = f.addresses.decides(&routes[i])
	}
	for i, r := range routes {
		here := to.clone()
		here.addressDecides = !r.Terminal && (to.addressDecides || decidesBehind(routes, decides, i))
		for _, b := range before {
			if effect := b.effectOn(&r); effect != "" {
				here.passed = append(here.passed, effect)
			}
		}
		if len(r.Match) > 0 {
			here.routes = append(here.routes, r.Match)
			here.host = cmp.Or(firstHost(r.Match), here.host)
		}
		if err := f.visitHandlers(r.Handle, here); err != nil {
			return err
		}
		passed, err := f.passing(&r)
		if err != nil {
			return err
		}
		before = append(before, passed)
	}
	return nil
}

// firstHost returns the first host that matchers name; empty if they name none.
func firstHost(match json.RawMessage) string {
	var sets []struct {
		Host []string `json:"host"`
	}
	if json.Unmarshal(match, &sets) != nil {
		return ""
	}
	for _, set := range sets {
		if len(set.Host) > 0 {
			return set.Host[0]
		}
	}
	return ""
}

// decidesBehind reports whether the requests of a route may reach one that
// decides, behind it in its list.
func decidesBehind(routes []rawRoute, decides []bool, at int) bool {
	group := routes[at].Group
	for i := at + 1; i < len(routes); i++ {
		if decides[i] && (group == "" || group != routes[i].Group) {
			return true
		}
	}
	return false
}

// visitHandlers collects the places in the handlers of a route.
func (f *placeFinder) visitHandlers(handlers []json.RawMessage, here *way) error {
	addressDecidesBehind := here.addressDecides
	for i, raw := range handlers {
		here.addressDecides = addressDecidesBehind || f.addresses.handles(handlers[i+1:])
		if err := f.visitHandler(raw, here); err != nil || i == len(handlers)-1 {
			return err
		}
		text, err := f.text(raw)
		if err != nil {
			return err
		}
		if text != "" && text != ruleText {
			here.passed = append(here.passed, text)
		}
	}
	return nil
}

func (f *placeFinder) visitHandler(raw json.RawMessage, here *way) error {
	name, err := handlerName(raw)
	switch {
	case err != nil:
		return err
	case name == "sse":
		f.places = append(f.places, here.place())
		return nil
	case name != "subroute":
		return nil
	}
	var sub rawSubroute
	if err := json.Unmarshal(raw, &sub); err != nil {
		return err
	}
	if err := f.visit(sub.Routes, here); err != nil {
		return err
	}
	if sub.Routes == nil || sub.Errors == nil { // as Caddy does
		return nil
	}
	return f.visit(sub.Errors.Routes, &way{handlesErrors: true})
}

func handlerName(raw json.RawMessage) (string, error) {
	var handler struct {
		Name string `json:"handler"`
	}
	err := json.Unmarshal(raw, &handler)
	return handler.Name, err
}

// passedRoute is a route that stands in a list before another.
type passedRoute struct {
	*rawRoute
	selects string // the matchers; empty if they take whole URLs
	text    string // the matchers and handlers; empty if requests pass unchanged
}

// effectOn describes the route to a later one of its list.
func (p *passedRoute) effectOn(later *rawRoute) string {
	if p.Terminal || p.Group != "" && p.Group == later.Group { // a request goes through one of them
		return p.selects
	}
	return p.text
}

// passing describes a route to those behind it.
func (f *placeFinder) passing(r *rawRoute) (passedRoute, error) {
	p := passedRoute{rawRoute: r}
	if selectsClients(r.Match) {
		p.selects = string(r.Match)
	}
	if r.Terminal {
		return p, nil
	}
	texts, err := f.texts(r.Handle)
	switch {
	case len(texts) == 0:
	case !slices.ContainsFunc(texts, func(text string) bool { return text != ruleText }):
		p.text = p.selects // a rule answers the requests that are for it, and passes the others unchanged
	default:
		p.text = fmt.Sprintf("%s %q", r.Match, texts)
	}
	return p, err
}

// selectsClients reports whether a route's matchers may match one client's
// request and not another's for the same URL. Other matchers take a URL away from
// all clients, and views of one URL have nothing of another.
func selectsClients(match json.RawMessage) bool {
	var sets []map[string]json.RawMessage
	if json.Unmarshal(match, &sets) != nil {
		return len(match) > 0
	}
	for _, set := range sets {
		for name, value := range set {
			switch name {
			case "method", "path_regexp":
			case "host", "path", "query":
				value = bytes.TrimPrefix(value, []byte("{")) // query's is an object
				if bytes.ContainsRune(value, '{') {          // a placeholder
					return true
				}
			default:
				return true
			}
		}
	}
	return false
}

// ruleText stands for a rule in texts.
const ruleText = "sse"

// texts returns the texts of handlers, without the empty ones.
func (f *placeFinder) texts(handlers []json.RawMessage) (texts []string, err error) {
	for _, raw := range handlers {
		text, err := f.text(raw)
		if err != nil {
			return nil, err
		}
		if text != "" {
			texts = append(texts, text)
		}
	}
	return texts, nil
}

// text describes a handler to those behind it. It is empty if the handler changes
// only responses.
func (f *placeFinder) text(raw json.RawMessage) (string, error) {
	var handler struct {
		Name    string          `json:"handler"`
		Request json.RawMessage `json:"request"`
	}
	if err := json.Unmarshal(raw, &handler); err != nil {
		return "", err
	}
	switch handler.Name {
	case "sse":
		return ruleText, nil
	case "encode", "log_append", "tracing":
		return "", nil
	case "headers":
		if len(handler.Request) == 0 {
			return "", nil
		}
	case "invoke":
		return string(raw) + f.named, nil
	case "subroute":
		return f.subrouteText(raw)
	}
	return string(raw), nil
}

func (f *placeFinder) subrouteText(raw json.RawMessage) (string, error) {
	var sub rawSubroute
	if err := json.Unmarshal(raw, &sub); err != nil {
		return "", err
	}
	routes := sub.Routes
	if sub.Errors != nil {
		routes = slices.Concat(routes, sub.Errors.Routes)
	}
	var texts []string
	for _, r := range routes {
		p, err := f.passing(&r)
		if err != nil {
			return "", err
		}
		if p.text != "" {
			texts = append(texts, p.text)
		}
	}
	if len(texts) == 0 {
		return "", nil
	}
	return fmt.Sprintf("%q", texts), nil
}
