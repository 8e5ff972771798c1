package poll_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestOnlyStrongLastModifiedIsSentBack(t *testing.T) {
	const modified, later, sameSecond = "Sat, 01 Jan 2000 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:01 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"
	for _, test := range []struct {
		header      []string
		etag, since string
	}{
		{[]string{"Last-Modified", modified, "Date", later}, "", modified},
		{[]string{"Last-Modified", modified, "Date", sameSecond}, "", ""},
		{[]string{"Last-Modified", later, "Date", modified}, "", ""},
		{[]string{"Last-Modified", modified}, "", ""},
		{[]string{"Last-Modified", "yesterday", "Date", later}, "", ""},
		{[]string{"Last-Modified", modified, "Date", "now"}, "", ""},
		{[]string{"Last-Modified", modified, "Date", later, "ETag", `W/"1"`}, `W/"1"`, ""},
		{nil, "", ""},
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document("1", test.header...))
			e.subscribe(newRequest("/doc", "If-Modified-Since", "viewer's own", "If-None-Match", "viewer's own"))
			if h := e.last().Header; h.Get("If-None-Match")+h.Get("If-Modified-Since") != "" {
				t.Errorf("the first poll has %v", h)
			}
			advance(3 * time.Second)
			h := e.last().Header
			if h.Get("If-None-Match") != test.etag || h.Get("If-Modified-Since") != test.since {
				t.Errorf("%q: polled with %v", test.header, h)
			}
		})
	}
}

func TestNotModifiedSinceConfirmsDocument(t *testing.T) {
	within(t, poll.Config{Interval: second}, func(e *env) {
		answer := func(modified, body string) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				if r.Header.Get("If-Modified-Since") == modified {
					return status(http.StatusNotModified), nil
				}
				return document(body, "Last-Modified", modified, "Date", "Sat, 01 Jan 2000 01:00:00 GMT"), nil
			})
		}
		answer("Sat, 01 Jan 2000 00:00:00 GMT", "1")
		v := e.subscribe(newRequest("/doc"))
		advance(3 * time.Second)
		v.want(t, "1")
		answer("Sat, 01 Jan 2000 00:30:00 GMT", "2")
		advance(3 * time.Second)
		v.want(t, "1", "2")
	})
}
