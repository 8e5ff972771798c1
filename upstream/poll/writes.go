package poll

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// IsSafe reports whether a request method is safe: whether it reads only. These
// are the safe ones of the IANA's registry of methods.
func IsSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		"PROPFIND", "REPORT", "SEARCH", "QUERY", "PRI":
		return true
	default:
		return false
	}
}

// WriteRule names requests that are writes, or that aren't.
type WriteRule struct {
	// The methods of the requests, in capitals. Default: with `match` or `off`,
	// all methods, otherwise those that aren't safe.
	Methods []string `json:"methods,omitempty"`

	// The paths of the requests. A path includes those below it. Such a write
	// polls all views of the rule. Default: if there is no `match` either, all
	// paths; a write then polls the views at its path, above it and below it.
	Paths []string `json:"paths,omitempty"`

	// Matchers, one of which must match the request. Such a write polls all views
	// of the rule. Default: none.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// The requests are no writes. This counts before all else. Default: false.
	Off bool `json:"off,omitempty"`

	matchers caddyhttp.MatcherSets
}

// LoadMatchers loads the matchers of [Config].Writes. Provision needs none.
func (c *Config) LoadMatchers(ctx caddy.Context) error {
	for _, w := range c.Writes {
		if w.MatcherSetsRaw == nil {
			continue
		}
		loaded, err := ctx.LoadModule(w, "MatcherSetsRaw")
		if err != nil {
			return fmt.Errorf("poll: writes: %w", err)
		}
		if err := w.matchers.FromInterface(loaded); err != nil {
			return fmt.Errorf("poll: writes: %w", err)
		}
	}
	return nil
}

// namesDocuments reports whether the rule says more than which methods write.
func (w *WriteRule) namesDocuments() bool { return len(w.Paths) > 0 || w.hasMatchers() }

// hasMatchers reports whether the rule has matchers, loaded or not: Caddy forgets
// their JSON as it loads them.
func (w *WriteRule) hasMatchers() bool { return len(w.MatcherSetsRaw)+len(w.matchers) > 0 }

// matches reports whether the rule is about a request.
func (w *WriteRule) matches(r *http.Request) bool {
	named := len(w.Methods) > 0
	switch {
	case named && !slices.Contains(w.Methods, r.Method):
		return false
	case !w.namesDocuments():
		return true
	case (named || w.Off || !IsSafe(r.Method)) && slices.ContainsFunc(w.Paths, func(path string) bool { return within(r.URL.Path, path) }):
		return true
	case !w.hasMatchers():
		return false
	}
	matched, err := w.matchers.AnyMatchWithError(r)
	return matched && err == nil
}

// takesSafe reports whether the rule may make writes of requests with safe methods.
func (w *WriteRule) takesSafe() bool {
	if len(w.Methods) == 0 {
		return !w.Off && w.hasMatchers()
	}
	return !w.Off && slices.ContainsFunc(w.Methods, IsSafe)
}

// Effect is which views of a poller a request concerns.
type Effect int

// The effects of requests.
const (
	NoViews      Effect = iota // it is no write
	RelatedViews               // those at its path, above it and below it
	AllViews                   // all views of its host
)

// Effect returns which views a request concerns if it succeeds. The request must
// be as it came: later handlers may change it.
func (p *Poller) Effect(r *http.Request) Effect {
	c, effect := p.config, NoViews
	if !IsSafe(r.Method) {
		switch {
		case c.refreshedBy([]string{r.URL.Path}):
			effect = AllViews
		case !c.WritesOnly:
			effect = RelatedViews
		}
	}
	for _, w := range c.Writes {
		switch {
		case !w.matches(r):
		case w.Off:
			return NoViews
		case w.namesDocuments():
			effect = AllViews
		default:
			effect = max(effect, RelatedViews)
		}
	}
	return effect
}

// TakesSafeWrites reports whether requests with safe methods may be writes.
func (p *Poller) TakesSafeWrites() bool {
	return slices.ContainsFunc(p.config.Writes, (*WriteRule).takesSafe)
}

// checkWrites returns an error if the options about writes are wrong.
func (c *Config) checkWrites() error {
	if c.RefreshOff && (len(c.Refresh) > 0 || len(c.Writes) > 0 || c.WritesOnly) {
		return errors.New("poll: refresh off excludes refresh paths and all other ways to say what writes are: remove one of the two")
	}
	if c.WritesOnly && len(c.Refresh) == 0 && !slices.ContainsFunc(c.Writes, func(w *WriteRule) bool { return !w.Off }) {
		return errors.New("poll: refresh only names no writes: write for example refresh only PUT PATCH DELETE, or refresh off")
	}
	paths := slices.Clone(c.Refresh)
	for _, w := range c.Writes {
		if len(w.Methods) == 0 && !w.namesDocuments() {
			return errors.New("poll: a rule of writes names no requests: give it methods, paths or match")
		}
		paths = append(paths, w.Paths...)
		for _, method := range w.Methods {
			if !httpguts.ValidHeaderFieldName(method) || strings.ToUpper(method) != method {
				return fmt.Errorf("poll: refresh %q is no method: write it in capitals, such as PUT", method)
			}
		}
	}
	for _, path := range paths {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "*") {
			return fmt.Errorf("poll: refresh %q is no path: write a path such as /checkout, without wildcards; it includes the paths below it", path)
		}
	}
	return nil
}
