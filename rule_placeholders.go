package caddysse

import (
	"regexp"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// placeholder matches a placeholder in the text of a configuration.
var placeholder = regexp.MustCompile(`\{([^{}"\\\s]+)\}`)

// standardPlaceholders are the prefixes of placeholders that every request has,
// subrequests included, or that only responses have.
var standardPlaceholders = []string{
	"http.request.", "http.vars.", "http.reverse_proxy.", "http.response.", "http.intercept.", "http.error.", "http.shutting_down", "http.time_until_shutdown",
	"env.", "system.", "time.", "file.", "http.auth.user.id",
}

// placeholdersOfHandlers returns the names of the placeholders in the HTTP app's
// configuration that only a handler or matcher can set, such as those of a map or
// the groups of a regular expression. Subrequests repeat the values that the
// client's request has for them. The result is nil if the configuration is
// unknown.
func (a *App) placeholdersOfHandlers(ctx caddy.Context) []string {
	if a.placeholders == nil {
		a.placeholders = findPlaceholders(rawApp(ctx, "http"))
	}
	return a.placeholders
}

func findPlaceholders(config []byte) []string {
	names := []string{}
	for _, found := range placeholder.FindAllSubmatch(config, -1) {
		if name := string(found[1]); !hasAnyPrefix(name, standardPlaceholders...) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
