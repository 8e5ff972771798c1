package stream

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// MediaType is what a stream is served as.
const MediaType = "text/event-stream"

// positionParameters are the query parameters that stand for the Last-Event-ID header,
// for clients that can't set one.
var positionParameters = []string{"last_event_id", "lastEventId"}

// LastEventID returns the position that the client has, empty if it has none.
// The header wins: a browser that reconnects repeats the URL, whose position is
// that of its first connection.
func LastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	query := r.URL.Query()
	for _, name := range positionParameters {
		if id := query.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// WithoutPosition returns a URL's query without the parameters that hold a
// position; the rest stays as it was sent, in its order.
func WithoutPosition(rawQuery string) string {
	if !strings.Contains(rawQuery, "vent") && !strings.Contains(rawQuery, "%") { // of either name, or in disguise
		return rawQuery
	}
	kept := make([]string, 0, 4)
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if !isPositionParameter(name) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

func isPositionParameter(name string) bool {
	if plain, err := url.QueryUnescape(name); err == nil {
		name = plain
	}
	for _, id := range positionParameters {
		if name == id {
			return true
		}
	}
	return false
}

// Accepts tells whether the client would take a stream: it doesn't say what it
// takes, or takes it by name or by a wildcard (RFC 9110 §12.5.1).
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

// Prefers tells whether the client names a stream as what it wants, and names
// nothing that it would rather have.
func Prefers(h http.Header) bool {
	asked, other := 0.0, 0.0
	for t, q := range mediaRanges(h.Values("Accept")) {
		switch {
		case t == MediaType:
			asked = max(asked, q)
		case !strings.Contains(t, "*"):
			other = max(other, q)
		}
	}
	return asked > 0 && asked >= other
}

// maxAcceptBytes is how many bytes of a request's Accept headers are looked at.
// Browsers send less than 200; over HTTP/2 a few hundred bytes unfold to as many
// as the server takes, again with each request.
const maxAcceptBytes = 2 << 10

// acceptMembers yields the members of Accept headers, as far as they are looked at.
func acceptMembers(values []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		room := maxAcceptBytes
		for _, value := range values {
			for part := range strings.SplitSeq(value, ",") {
				if room -= len(part) + 1; room < 0 || !yield(part) {
					return
				}
			}
		}
	}
}

// mediaRanges yields the media ranges of Accept headers with their weights. What
// can't be parsed is left out.
func mediaRanges(values []string) func(yield func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		for part := range acceptMembers(values) {
			t, params, err := mime.ParseMediaType(part)
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

// PrefersType tells whether there is nothing that the client would rather have than
// a media type. It must take it by its full name if named is set; else a
// wildcard will do, or that it doesn't say what it takes.
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

// specificity tells how closely a media range matches a type: 2 by its name, 1 by
// its kind, 0 as anything does, -1 not at all.
func specificity(mediaRange, mediaType string) int {
	kind, _, _ := strings.Cut(mediaType, "/")
	switch mediaRange {
	case mediaType:
		return 2
	case kind + "/*":
		return 1
	case "*/*":
		return 0
	default:
		return -1
	}
}

// OtherTypes returns the Accept header without the stream: what the client
// takes beside it. Empty if there is nothing.
func OtherTypes(h http.Header) string {
	var kept []string
	for part := range acceptMembers(h.Values("Accept")) {
		part = strings.TrimSpace(part)
		if t, _, err := mime.ParseMediaType(part); err == nil && t != MediaType {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ", ")
}
