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

// validation decides when polls may be conditional. Many backends make validators
// of seconds and lengths: one that has changed the document within the second may
// answer 304 for ever. So validators count only when a whole response, at least a
// second after the first one with them, has them still.
type validation struct {
	validators validators
	first      time.Time // when the first response with the validators was read
	count      bool
	doubtful   bool // the document has changed under validators that counted
	useless    bool // and that was no accident: the document is stable
}

// observe records the validators of a whole response, whether its body was that
// of the last one, and when it was asked for and read.
func (a *validation) observe(v validators, same bool, asked, read time.Time) {
	switch {
	case v == (validators{}):
		a.forget()
	case v != a.validators:
		*a = validation{validators: v, first: read, useless: a.useless}
	case a.count && !same:
		*a = validation{validators: v, first: read, doubtful: true, useless: a.useless}
	case asked.Sub(a.first) < time.Second:
	case a.doubtful && same: // and not a document that differs in each response
		a.useless = true
	default:
		a.count = true
	}
}

// forget makes the next poll unconditional.
func (a *validation) forget() { *a = validation{useless: a.useless} }

// condition returns the validators that count.
func (a *validation) condition() validators {
	if !a.count || a.useless {
		return validators{}
	}
	return a.validators
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
	value := h.Get("Last-Modified")
	if value == "" {
		return ""
	}
	modified, err := http.ParseTime(value)
	if err != nil {
		return ""
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < time.Second {
		return ""
	}
	return value
}
