package poll

import (
	"net/http"
	"time"
)

// validators are what a conditional request names (RFC 9110 §8.8).
type validators struct {
	etag     string
	modified string
}

// authorize makes a request one that is answered with 304 if nothing has changed.
func (v validators) setHeader(h http.Header) {
	switch {
	case v.etag != "":
		h.Set("If-None-Match", v.etag)
	case v.modified != "":
		h.Set("If-Modified-Since", v.modified)
	}
}

// lastModified is the date of a response's document, if it tells this document
// from all others: it has whole seconds, so that one that changes twice in a
// second has the same date before and after, unless that second was over
// (RFC 9110 §8.8.2.2).
func lastModified(h http.Header) string {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return ""
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < time.Second {
		return ""
	}
	return h.Get("Last-Modified")
}
