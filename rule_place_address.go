package caddysse

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// addressFinder finds out whether routes may treat clients differently by their
// addresses. What it doesn't know may: other modules' matchers and handlers, and
// placeholders that a handler sets.
type addressFinder struct {
	named   map[string]json.RawMessage // the server's named routes
	headers []string                   // in which the server's trusted proxies name the client's address
}

func newAddressFinder(server *rawServer) *addressFinder {
	f := new(addressFinder)
	_ = json.Unmarshal(server.NamedRoutes, &f.named) // Caddy has read both
	_ = json.Unmarshal(server.ClientIPHeaders, &f.headers)
	return f
}

// decides reports whether an address may decide about requests that reach a
// route.
func (f *addressFinder) decides(r *rawRoute) bool { return f.matches(r.Match) || f.handles(r.Handle) }

func (f *addressFinder) anyDecides(routes []rawRoute) bool {
	return slices.ContainsFunc(routes, func(r rawRoute) bool { return f.decides(&r) })
}

// matches reports whether an address may decide which requests match.
func (f *addressFinder) matches(match json.RawMessage) bool {
	if len(match) == 0 {
		return false
	}
	var sets []map[string]json.RawMessage
	if json.Unmarshal(match, &sets) != nil {
		return true
	}
	for _, set := range sets {
		for name, value := range set {
			if f.matcherReads(name, value) {
				return true
			}
		}
	}
	return false
}

func (f *addressFinder) matcherReads(name string, value json.RawMessage) bool {
	switch name {
	case "host", "path", "path_regexp", "method", "protocol", "query", "tls", "file", "url_pattern":
		return f.mentions(value)
	case "header", "header_regexp":
		return f.mentions(value) || f.namesHeader(value)
	case "expression":
		return f.mentions(value) || f.namesHeader(value) || callsOther(value)
	case "vars", "vars_regexp":
		return f.mentions(value) || namesVariable(value)
	case "not":
		return f.matches(value)
	default: // remote_ip, client_ip and other modules' matchers
		return true
	}
}

// handles reports whether an address may decide how handlers respond. A backend
// that a handler tells the address may decide, too, but the configuration doesn't
// show it.
func (f *addressFinder) handles(handlers []json.RawMessage) bool {
	return slices.ContainsFunc(handlers, f.handlerReads)
}

func (f *addressFinder) handlerReads(raw json.RawMessage) bool {
	var handler struct {
		Name           string                     `json:"handler"`
		Routes         []rawRoute                 `json:"routes"`      // of a subroute
		Named          string                     `json:"name"`        // of an invoke
		Providers      map[string]json.RawMessage `json:"providers"`   // of an authentication
		StatusCode     json.RawMessage            `json:"status_code"` // of a response
		HandleResponse []struct {
			Routes     []rawRoute      `json:"routes"`
			StatusCode json.RawMessage `json:"status_code"`
		} `json:"handle_response"`
	}
	if json.Unmarshal(raw, &handler) != nil || f.mentions(handler.StatusCode) {
		return true
	}
	for _, response := range handler.HandleResponse {
		if f.anyDecides(response.Routes) || f.mentions(response.StatusCode) {
			return true
		}
	}
	switch handler.Name {
	case "sse", "reverse_proxy", "file_server", "static_response", "error", "headers", "rewrite", "encode", "intercept", "vars", "map",
		"request_body", "push", "tracing", "log_append", "timeouts", "copy_response", "copy_response_headers", "acme_server", "metrics":
		return false
	case "subroute":
		return f.anyDecides(handler.Routes)
	case "invoke":
		var named rawRoute
		raw, known := f.named[handler.Named]
		return !known || json.Unmarshal(raw, &named) != nil || f.decides(&named)
	case "authentication":
		_, basic := handler.Providers["http_basic"]
		return !basic || len(handler.Providers) > 1
	default:
		return true
	}
}

// mentions reports whether a text has a placeholder whose value an address may
// decide: any that another handler may have set.
func (f *addressFinder) mentions(text json.RawMessage) bool {
	for _, found := range placeholder.FindAllSubmatch(text, -1) {
		name := string(found[1])
		switch {
		case strings.HasPrefix(name, "http.request.remote"):
			return true
		case strings.HasPrefix(name, "http.request.header."):
			if f.isAddressHeader(strings.TrimPrefix(name, "http.request.header.")) {
				return true
			}
		case !hasAnyPrefix(name, "http.request.", "http.regexp.", "http.reverse_proxy.", "http.matchers.file.", "env.", "system.", "time.", "file."):
			return true
		}
	}
	return false
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(s, prefix) })
}

// namesVariable reports whether a matcher of variables reads one, and not only
// placeholders.
func namesVariable(value json.RawMessage) bool {
	var byName map[string]json.RawMessage
	if json.Unmarshal(value, &byName) != nil {
		return true
	}
	for name := range byName {
		if !strings.HasPrefix(name, "{") || !strings.HasSuffix(name, "}") {
			return true
		}
	}
	return false
}

// callsOther reports whether an expression calls a function that may read an
// address: any but those of CEL and of Caddy's other matchers.
func callsOther(expression json.RawMessage) bool {
	for _, call := range call.FindAllStringSubmatch(string(expression), -1) {
		if !harmlessCalls[call[1]] {
			return true
		}
	}
	return false
}

var call = regexp.MustCompile(`([A-Za-z_]\w*)\s*\(`)

var harmlessCalls = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range strings.Fields(`host path path_regexp method protocol query header header_regexp file tls in has size
		contains startsWith endsWith matches lowerAscii upperAscii replace split substring trim charAt indexOf lastIndexOf join format
		int uint double string bool type exists exists_one all filter map`) {
		set[name] = true
	}
	return set
}()

// namesHeader reports whether a text has the name of a header that tells an
// address.
func (f *addressFinder) namesHeader(text json.RawMessage) bool {
	for word := range strings.FieldsFuncSeq(string(text), func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		if f.isAddressHeader(word) {
			return true
		}
	}
	return false
}

func (f *addressFinder) isAddressHeader(name string) bool {
	return poll.IsAddressHeader(name) || slices.ContainsFunc(f.headers, func(h string) bool { return strings.EqualFold(h, name) })
}
