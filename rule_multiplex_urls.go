package caddysse

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// maxURLBytes limits the URLs of a multiplexed stream, all together.
const maxURLBytes = 8 << 10

// multiplexedURL is one URL that a multiplexed stream asks for.
type multiplexedURL struct {
	text string // as the client has written it
	url  *url.URL
}

// multiplexedURLs returns the URLs that a query names by its parameters `url`, each
// once and in their order.
func multiplexedURLs(rawQuery string, most int) ([]multiplexedURL, *refusal.Error) {
	var urls []multiplexedURL
	bytes := 0
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name != "url" {
			continue
		}
		text, err := url.QueryUnescape(value)
		if err != nil {
			return nil, refuseURL(value, "its %-encoding is not valid")
		}
		if slices.ContainsFunc(urls, func(u multiplexedURL) bool { return u.text == text }) {
			continue
		}
		bytes += len(text)
		switch {
		case len(urls) == most:
			return nil, refusal.Newf(http.StatusBadRequest, "a stream may have %d URLs: open another for the others", most)
		case bytes > maxURLBytes:
			return nil, refusal.Newf(http.StatusBadRequest, "the URLs are longer than %d bytes together: open another stream for some of them", maxURLBytes)
		}
		parsed, reason := parseSiteURL(text)
		if reason != "" {
			return nil, refuseURL(text, reason)
		}
		urls = append(urls, multiplexedURL{text, parsed})
	}
	if len(urls) == 0 {
		return nil, refusal.Newf(http.StatusBadRequest, "name the URLs of the stream, such as ?url=/v1/orders&url=/v1/inventory")
	}
	return urls, nil
}

// refuseURL refuses a URL. The reason doesn't repeat its query, which may hold
// secrets.
func refuseURL(text, reason string) *refusal.Error {
	path, _, _ := strings.Cut(text, "?")
	return refusal.Newf(http.StatusBadRequest, "the URL %q: %s", refusal.Shorten(strings.ToValidUTF8(path, "�"), 100), reason)
}

// parseSiteURL parses a URL of the site itself: a path and perhaps a query, as a
// browser would send them. It returns the reason if it is none.
func parseSiteURL(text string) (parsed *url.URL, reason string) {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//"):
		return nil, "want a path of this site, such as /v1/orders"
	case strings.ContainsAny(text, `\#`):
		return nil, `leave out \ and #`
	case !utf8.ValidString(text) || strings.ContainsFunc(text, isControl):
		return nil, "want text without control characters"
	}
	parsed, err := url.ParseRequestURI(percentEncoded(text))
	if err != nil {
		return nil, "its %-encoding is not valid"
	}
	for segment := range strings.SplitSeq(parsed.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, "leave out the segments . and .."
		}
	}
	return parsed, ""
}

// percentEncoded encodes what a browser encodes before it sends a URL: spaces and
// all that is not ASCII.
func percentEncoded(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
