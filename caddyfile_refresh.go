package caddysse

import (
	"errors"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// parseRefresh parses a line that says which requests are writes:
//
//	refresh off
//	refresh [only] <path>|<METHOD>|@<matcher>...
//	refresh off    <path>|<METHOD>|@<matcher>...
func (p pollParser) parseRefresh(d *caddyfile.Dispenser) error {
	var first string
	if d.NextArg() {
		if first = d.Val(); first != "only" && first != "off" {
			d.Prev()
		}
	}
	w := &poll.WriteRule{Off: first == "off"}
	empty := true
	for ; d.NextArg(); empty = false {
		switch arg := d.Val(); {
		case strings.HasPrefix(arg, "@"):
			set, err := p.matcher(d)
			if err != nil {
				return err
			}
			w.MatcherSetsRaw = append(w.MatcherSetsRaw, set)
		case isMethod(arg):
			w.Methods = append(w.Methods, arg)
		default: // Validate checks it
			w.Paths = append(w.Paths, arg)
		}
	}
	switch {
	case empty && w.Off:
		p.RefreshOff = true
		return nil
	case empty && first == "only":
		return d.Errf("refresh only needs the requests that are writes: write for example refresh only PUT PATCH DELETE")
	case empty:
		return d.Errf("refresh needs a value")
	}
	p.WritesOnly = p.WritesOnly || first == "only"
	if len(w.Methods) == 0 && !w.Off {
		p.Refresh, w.Paths = append(p.Refresh, w.Paths...), nil
	}
	if len(w.Methods)+len(w.Paths)+len(w.MatcherSetsRaw) > 0 {
		p.Writes = append(p.Writes, w)
	}
	return nil
}

// isMethod reports whether an argument is a method: a word in capitals.
func isMethod(arg string) bool {
	return arg != "" && !strings.ContainsFunc(arg, func(c rune) bool { return (c < 'A' || c > 'Z') && c != '-' })
}

// matcher returns the matchers of the name that the dispenser is at.
func (p pollParser) matcher(d *caddyfile.Dispenser) (caddy.ModuleMap, error) {
	if p.namedMatcher == nil {
		return nil, d.Errf("refresh %s: a named matcher works in a site's block only", d.Val())
	}
	set, err := p.namedMatcher(d)
	if err != nil {
		return nil, d.Errf("refresh %s: %v: define the matcher in the same block, such as %[1]s path /logout", d.Val(), err)
	}
	return set, nil
}

// namedMatchers returns a function that returns the matchers of the name that a
// dispenser is at.
func namedMatchers(h httpcaddyfile.Helper) func(*caddyfile.Dispenser) (caddy.ModuleMap, error) {
	return func(d *caddyfile.Dispenser) (caddy.ModuleMap, error) {
		name := d.Token()
		before := name.Clone() // of the same line, and the same imported snippet
		before.Text = "refresh"
		at := h.WithDispenser(caddyfile.NewDispenser([]caddyfile.Token{before, name}))
		at.Next()
		set, found, err := at.MatcherToken()
		if err == nil && !found {
			err = errors.New("no such matcher")
		}
		return set, err
	}
}

// observedBy returns the matchers of the requests, beyond the rule's own, that
// may be writes to its documents.
func observedBy(h httpcaddyfile.Helper, c *poll.Config) []caddy.ModuleMap {
	var sets []caddy.ModuleMap
	if len(c.Refresh) > 0 {
		sets = append(sets, caddy.ModuleMap{"path": h.JSON(pathsBelow(c.Refresh))})
	}
	for _, w := range c.Writes {
		if w.Off {
			continue
		}
		if len(w.Paths) > 0 {
			sets = append(sets, caddy.ModuleMap{"path": h.JSON(pathsBelow(w.Paths)), "method": h.JSON(caddyhttp.MatchMethod(w.Methods))})
		}
		sets = slices.AppendSeq(sets, slices.Values(w.MatcherSetsRaw))
	}
	return sets
}
