package access

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// CORS allows pages of other origins to read a rule's streams (Fetch standard,
// "CORS protocol"). Its zero value allows none. It is safe for concurrent use.
type CORS struct {
	any        bool
	origins    []string
	method     string
	protection http.CrossOriginProtection
}

// NewCORS returns a CORS that allows the origins, such as https://app.example.com.
// "*" allows any origin, without credentials. The method is that of the requests
// that open streams; empty means GET.
func NewCORS(origins []string, method string) (*CORS, error) {
	c := &CORS{method: cmp.Or(method, http.MethodGet)}
	for _, o := range origins {
		if o == "*" {
			c.any = true
			continue
		}
		if !isOrigin(o) {
			return nil, fmt.Errorf("cors %q is not an origin: write a scheme, a host and, unless it is the scheme's default, a port, such as https://app.example.com", o)
		}
		c.origins = append(c.origins, strings.ToLower(o))
		if err := c.protection.AddTrustedOrigin(strings.ToLower(o)); err != nil {
			return nil, fmt.Errorf("cors: %w", err)
		}
	}
	if c.any && len(c.origins) > 0 {
		return nil, fmt.Errorf("cors * allows any origin already: leave out %s, or *", strings.Join(c.origins, ", "))
	}
	return c, nil
}

// isOrigin reports whether a browser could send o as an Origin: a scheme, a host
// without wildcards, and a port unless it is the scheme's default.
func isOrigin(o string) bool {
	u, err := url.Parse(o)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.Contains(u.Host, "*") {
		return false
	}
	port := u.Port()
	return !strings.HasSuffix(u.Host, ":") && (u.Scheme != "https" || port != "443") && (u.Scheme != "http" || port != "80")
}

// SetHeaders adds the headers that let the page of the request read the response.
func (c *CORS) SetHeaders(h http.Header, r *http.Request) {
	switch origin := r.Header.Get("Origin"); {
	case c.any:
		h.Set("Access-Control-Allow-Origin", "*")
	case len(c.origins) == 0:
	default:
		h.Add("Vary", "Origin") // always, or a cache could give one page the response for another
		if slices.Contains(c.origins, strings.ToLower(origin)) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	}
}

// IsUntrustedOrigin reports whether the request comes from a page of another origin
// that may not open streams with its user's credentials, and has an unsafe method.
// If any origin is allowed, then only requests with cookies count.
func (c *CORS) IsUntrustedOrigin(r *http.Request) bool {
	if c.any && len(r.Header["Cookie"]) == 0 {
		return false
	}
	return c.protection.Check(r) != nil
}

// RemoveHeaders removes the headers of SetHeaders from a response that has its own.
func (c *CORS) RemoveHeaders(h http.Header) {
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Credentials")
}
