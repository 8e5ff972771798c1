package poll

import (
	"net/http"
	"time"
)

// validators make a request conditional (RFC 9110 §8.8).
type validators struct {
	etag     string
	modified string
}

// setHeader makes a request conditional.
func (v validators) setHeader(h http.Header) {
	switch {
	case v.etag != "":
		h.Set("If-None-Match", v.etag)
	case v.modified != "":
		h.Set("If-Modified-Since", v.modified)
	}
}

// lastModified returns a response's Last-Modified if it identifies the document.
// It counts in seconds, so a document that changes twice within a second has one
// date for both, unless that second was over (RFC 9110 §8.8.2.2).
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
