package stream

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// MediaType is the Content-Type of a stream (HTML standard, "Server-sent events").
const MediaType = "text/event-stream"

// LastEventID returns the position that the client sends in its Last-Event-ID
// header or in the query, or the empty string if it sends none. The header takes
// precedence: a browser that reconnects repeats the URL, whose position is from
// its first connection.
//
// In the query, the parameter's name is Last-Event-ID in any case, with or without
// hyphens and underscores: each client library has a spelling of its own. The last
// one that isn't empty counts, since libraries append it to the URL that the page
// has opened.
func LastEventID(r *http.Request) (id string) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if value == "" || !isPositionParameter(name) {
			continue
		}
		id = value // also if it can't be unescaped: an id that nobody knows begins with a reset
		if plain, err := url.QueryUnescape(value); err == nil {
			id = plain
		}
	}
	return id
}

// WithoutPosition returns a URL's raw query without the parameters that hold a
// position; see [LastEventID]. The other parameters keep their bytes and their
// order.
func WithoutPosition(rawQuery string) string {
	others := make([]string, 0, 4)
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if !isPositionParameter(name) {
			others = append(others, pair)
		}
	}
	return strings.Join(others, "&")
}

const positionParameter = "lasteventid"

var wordSeparators = strings.NewReplacer("-", "", "_", "")

func isPositionParameter(name string) bool {
	if len(name) < len(positionParameter) {
		return false
	}
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	return strings.EqualFold(wordSeparators.Replace(name), positionParameter)
}

// Accepts reports whether the client accepts a stream (RFC 9110 §12.5.1): it has
// no Accept header, or the most specific media range that matches [MediaType]
// has a weight above zero.
func Accepts(h http.Header) bool {
	values := h.Values("Accept")
	if len(values) == 0 {
		return true
	}
	best, specific := 0.0, -1
	for t, q := range mediaRanges(values) {
		if s := specificity(t, MediaType); s > specific || s == specific && q > best {
			best, specific = q, s
		}
	}
	return specific >= 0 && best > 0
}

// Prefers reports whether the client asks for a stream: of the media ranges of its
// Accept header, [MediaType] has the greatest weight and comes first among its
// equals. A client that names the type after another one, as clients of GraphQL
// and MCP do, can read a stream and asks for none.
func Prefers(h http.Header) bool {
	best, prefers := 0.0, false
	for t, q := range mediaRanges(h.Values("Accept")) {
		if q > best {
			best, prefers = q, t == MediaType
		}
	}
	return prefers
}

// maxAcceptBytes limits the bytes of a request's Accept headers that this package
// parses. Browsers send fewer than 200. HTTP/2's header compression lets a client
// expand a few hundred bytes to the server's limit with each request.
const maxAcceptBytes = 2 << 10

// acceptElements yields the list elements (RFC 9110 §5.6.1) in the first
// maxAcceptBytes of Accept headers.
func acceptElements(values []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		remaining := maxAcceptBytes
		for _, value := range values {
			for element := range strings.SplitSeq(value, ",") {
				if remaining -= len(element) + 1; remaining < 0 || !yield(element) {
					return
				}
			}
		}
	}
}

// mediaRanges yields the media ranges of Accept headers with their weights. It
// skips elements that it can't parse.
func mediaRanges(values []string) func(yield func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		for t, q := range weighted(values) {
			if strings.Contains(t, "/") && !yield(t, q) {
				return
			}
		}
	}
}

// acceptsGzip reports whether the client accepts gzip and doesn't prefer a response
// that isn't encoded (RFC 9110 §12.5.3).
func acceptsGzip(h http.Header) bool {
	gzip, identity, others := -1.0, -1.0, -1.0
	for coding, q := range weighted(h.Values("Accept-Encoding")) {
		switch coding {
		case "gzip", "x-gzip":
			gzip = q
		case "identity":
			identity = q
		case "*":
			others = q
		}
	}
	if gzip < 0 {
		gzip = others
	}
	return gzip > 0 && gzip >= identity
}

// weighted yields the elements of Accept headers, in lower case, with their weights.
// It skips elements that it can't parse.
func weighted(values []string) func(yield func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		for element := range acceptElements(values) {
			t, params, err := mime.ParseMediaType(element)
			if err != nil {
				continue
			}
			q := 1.0
			if s, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(s, 64); err != nil {
					continue
				}
			}
			if !yield(t, q) {
				return
			}
		}
	}
}

// PrefersType reports whether the client accepts mediaType and gives no other
// media range a greater weight. If named is set, the Accept header must contain
// mediaType itself; otherwise a wildcard suffices, or no Accept header. The
// parameters of mediaType are ignored. A mediaType that can't be parsed is never
// preferred.
func PrefersType(h http.Header, mediaType string, named bool) bool {
	mediaType, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return false
	}
	values := h.Values("Accept")
	if len(values) == 0 {
		return !named
	}
	best, own, specific := 0.0, 0.0, -1
	for t, q := range mediaRanges(values) {
		best = max(best, q)
		if s := specificity(t, mediaType); s > specific {
			own, specific = q, s
		}
	}
	return own > 0 && own >= best && (specific == 2 || !named)
}

// specificity returns how specifically a media range matches a media type
// (RFC 9110 §12.5.1): 2 for the type itself, 1 for type/*, 0 for */*, -1 for no
// match.
func specificity(mediaRange, mediaType string) int {
	topLevel, _, _ := strings.Cut(mediaType, "/")
	switch mediaRange {
	case mediaType:
		return 2
	case topLevel + "/*":
		return 1
	case "*/*":
		return 0
	default:
		return -1
	}
}

// OtherTypes returns the elements of the Accept header that aren't [MediaType],
// as they came, also those that can't be parsed. It returns the empty string if
// none are left.
func OtherTypes(h http.Header) string {
	var others []string
	for element := range acceptElements(h.Values("Accept")) {
		t, _, _ := strings.Cut(element, ";")
		if strings.TrimSpace(element) != "" && !strings.EqualFold(strings.TrimSpace(t), MediaType) {
			others = append(others, element)
		}
	}
	return strings.TrimSpace(strings.Join(others, ","))
}
