package access

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// streamHeaders are the headers of EventSource, its polyfills and fetch-based
// clients that need permission.
var streamHeaders = []string{"Last-Event-ID", "Cache-Control", "Authorization"}

// IsPreflight reports whether the request is a CORS-preflight request from an
// allowed origin for the method that opens streams. It may also be about an
// ordinary request to the same URL: a preflight doesn't tell.
func (c *CORS) IsPreflight(r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") != c.method {
		return false
	}
	return c.any || slices.Contains(c.origins, strings.ToLower(r.Header.Get("Origin")))
}

// IsForAny reports whether any origin is allowed, without credentials.
func (c *CORS) IsForAny() bool { return c.any }

// RespondToPreflight permits what a preflight asks for: its headers, too. With
// the actual request, the backend decides what they are worth.
func (c *CORS) RespondToPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	c.SetHeaders(h, r)
	h.Set("Access-Control-Allow-Methods", c.method)
	allowed := streamHeaders
	if c.method != http.MethodGet {
		allowed = append(slices.Clone(allowed), "Content-Type") // of the request's body
	}
	for _, name := range requestedHeaders(r) {
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, name) }) {
			allowed = append(slices.Clone(allowed), name)
		}
	}
	h.Set("Access-Control-Allow-Headers", strings.Join(allowed, ", "))
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
}

// maxRequestedHeaders limits how many headers of a preflight are permitted. A
// page's request has a handful.
const maxRequestedHeaders = 100

// requestedHeaders returns the names in a preflight's
// Access-Control-Request-Headers.
func requestedHeaders(r *http.Request) (names []string) {
	for _, value := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); httpguts.ValidHeaderFieldName(name) && len(names) < maxRequestedHeaders {
				names = append(names, name)
			}
		}
	}
	return names
}

// PermitsCredentials reports whether a response to a preflight permits the actual
// request with the user's credentials and all its headers (Fetch standard,
// "CORS-preflight fetch"). A wildcard stands for itself there.
func PermitsCredentials(preflight *http.Request, status int, h http.Header) bool {
	if status < 200 || status > 299 || h.Get("Access-Control-Allow-Origin") != preflight.Header.Get("Origin") || h.Get("Access-Control-Allow-Credentials") != "true" {
		return false
	}
	allowed := make(map[string]bool)
	for _, value := range h.Values("Access-Control-Allow-Headers") {
		for name := range strings.SplitSeq(value, ",") {
			allowed[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	for _, name := range requestedHeaders(preflight) {
		if !allowed[strings.ToLower(name)] {
			return false
		}
	}
	return true
}
