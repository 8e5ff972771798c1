package access

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// CORS lets pages of other origins read a rule's streams (the Fetch standard's
// "CORS protocol"). Its zero value lets none.
type CORS struct {
	any        bool
	origins    []string
	method     string
	protection http.CrossOriginProtection
}

// NewCORS checks origins, such as https://app.example.com. "*" is any origin,
// without credentials. The method is that of the requests that open streams;
// empty: GET.
func NewCORS(origins []string, method string) (*CORS, error) {
	c := &CORS{method: cmp.Or(method, http.MethodGet)}
	for _, o := range origins {
		if o == "*" {
			c.any = true
			continue
		}
		if !isOrigin(o) {
			return nil, fmt.Errorf("cors %q is no origin: write scheme, host and, if it isn't the scheme's own, port, such as https://app.example.com", o)
		}
		c.origins = append(c.origins, strings.ToLower(o))
		if err := c.protection.AddTrustedOrigin(strings.ToLower(o)); err != nil {
			return nil, fmt.Errorf("cors: %w", err)
		}
	}
	if c.any && len(c.origins) > 0 {
		return nil, fmt.Errorf("cors * is any origin already: leave out %s, or *", strings.Join(c.origins, ", "))
	}
	return c, nil
}

// isOrigin tells what a browser could send: no more than a scheme, a host
// without wildcards, and a port that isn't the scheme's own.
func isOrigin(o string) bool {
	u, err := url.Parse(o)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.Contains(u.Host, "*") {
		return false
	}
	port := u.Port()
	return !strings.HasSuffix(u.Host, ":") && (u.Scheme != "https" || port != "443") && (u.Scheme != "http" || port != "80")
}

// allowedHeaders are those that EventSource, its polyfills and fetch-based
// clients send beside the ones that need no permission.
const allowedHeaders = "Last-Event-ID, Cache-Control, Authorization"

// SetHeaders adds what lets the page that made the request read the response.
func (c *CORS) SetHeaders(h http.Header, r *http.Request) {
	switch origin := r.Header.Get("Origin"); {
	case c.any:
		h.Set("Access-Control-Allow-Origin", "*")
	case len(c.origins) == 0:
	default:
		h.Add("Vary", "Origin") // whoever asks: a cache must not give one page the answer for another
		if slices.Contains(c.origins, strings.ToLower(origin)) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	}
}

// IsUntrustedOrigin tells whether a browser has sent the request, by a method that may
// change something, on behalf of a page that may not open streams with its
// user's credentials. Without any, a page may do so that may read them.
func (c *CORS) IsUntrustedOrigin(r *http.Request) bool {
	if c.any && len(r.Header["Cookie"]) == 0 {
		return false
	}
	return c.protection.Check(r) != nil
}

// RemoveHeaders takes away what Headers has added, for a response that brings its own.
func (c *CORS) RemoveHeaders(h http.Header) {
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Credentials")
}

// Preflight answers the request by which a browser asks whether it may open a
// stream from another origin, and returns false for any other request and for
// origins that may not.
func (c *CORS) Preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") != c.method {
		return false
	}
	if !c.any && !slices.Contains(c.origins, strings.ToLower(r.Header.Get("Origin"))) {
		return false
	}
	h := w.Header()
	c.SetHeaders(h, r)
	h.Set("Access-Control-Allow-Methods", c.method)
	headers := allowedHeaders
	if c.method != http.MethodGet {
		headers += ", Content-Type" // of the query
	}
	h.Set("Access-Control-Allow-Headers", headers)
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}
