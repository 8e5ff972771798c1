package poll_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestTotalsAreSumsOverTheViews(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.URL.Path == "/broken" && e.polls() > 2 {
				return status(http.StatusServiceUnavailable), nil
			}
			return document("1"), nil
		})
		broken := newRequest("/doc")
		broken.URL.Path = "/broken"
		e.subscribe(broken)
		e.subscribe(newRequest("/doc"))
		e.subscribe(newRequest("/doc"))
		advance(10 * time.Second)
		if got := e.Totals(); got.Views != 2 || got.Viewers != 3 || got.Stale != 1 || got.Oldest != 10*time.Second {
			t.Errorf("%+v", got)
		}
	})
}

// A rewrite leaves the original URL, of which the position is no part.
func TestPositionInOriginalURLSeparatesNoViewers(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		for _, original := range []string{"/shop/doc?a=1", "/shop/doc?a=1&lastEventId=x-1", "/shop/doc?last_event_id=x-2&a=1"} {
			e.subscribeAs(newRequest("/doc"), &caller{original: original}, "")
		}
		if e.Views() != 1 {
			t.Errorf("%d views", e.Views())
		}
		e.subscribeAs(newRequest("/doc"), &caller{original: "/other/doc?a=1"}, "")
		if e.Views() != 2 {
			t.Errorf("%d views of two originals", e.Views())
		}
	})
}
