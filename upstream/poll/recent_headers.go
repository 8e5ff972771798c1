package poll

import (
	"maps"
	"net/http"
	"slices"
)

// recentHeaders are the headers of the newest views' targets. Most new views have
// equal ones, and share them: they come from the same page or the same browser.
// The poller's mutex guards it.
type recentHeaders struct {
	headers [16]http.Header
	next    int
}

// share returns recent headers that are equal, or else the given ones, which become
// the most recent. Nobody may change them any more.
func (r *recentHeaders) share(h http.Header) http.Header {
	for _, recent := range r.headers {
		if maps.EqualFunc(h, recent, slices.Equal[[]string]) {
			return recent
		}
	}
	r.headers[r.next] = h
	r.next = (r.next + 1) % len(r.headers)
	return h
}
