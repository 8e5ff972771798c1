package poll_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func (v *viewer) wantRefusal(t *testing.T, status int) {
	t.Helper()
	var refused *refusal.Error
	v.mu.Lock()
	defer v.mu.Unlock()
	if !errors.As(v.err, &refused) || refused.Status != status || refused.RetryAfter <= 0 {
		t.Errorf("got %v, want a refusal with %d and when to come back", v.err, status)
	}
}

func TestMaxViewsPerClientLimitsOnlyThatClient(t *testing.T) {
	within(t, poll.Config{MaxViewsPerClient: 2, Linger: 10 * second}, func(e *env) {
		from := func(client, path string) *viewer { return e.subscribeAs(newRequest(path), &caller{client: client}, "") }
		first := from("a", "/1")
		from("a", "/2").want(t, "1")
		from("a", "/3").wantRefusal(t, http.StatusTooManyRequests)
		from("a", "/2").want(t, "1") // there is one already
		from("b", "/3").want(t, "1")
		from("a", "/3").want(t, "1") // which b has brought about
		first.leave()
		from("a", "/4").wantRefusal(t, http.StatusTooManyRequests)
		advance(11 * time.Second) // no view lingers any more
		from("a", "/4").want(t, "1")
	})
}

func TestRekeyedViewStillCountsForItsClient(t *testing.T) {
	within(t, poll.Config{MaxViewsPerClient: 1, Linger: -1}, func(e *env) {
		e.set(document("1", "Vary", "Accept-Language"))
		for range 3 {
			v := e.subscribeAs(newRequest("/1", "Accept-Language", "de"), &caller{client: "a"}, "")
			v.want(t, "1")
			e.subscribeAs(newRequest("/2"), &caller{client: "a"}, "").wantRefusal(t, http.StatusTooManyRequests)
			v.leave()
			synctest.Wait()
		}
	})
}

func TestMaxViewsLimitsAllClients(t *testing.T) {
	within(t, poll.Config{MaxViews: 2}, func(e *env) {
		for i := range 2 {
			e.subscribeAs(newRequest(fmt.Sprint("/", i)), &caller{client: fmt.Sprint(i)}, "").want(t, "1")
		}
		e.subscribeAs(newRequest("/2"), &caller{client: "2"}, "").wantRefusal(t, http.StatusServiceUnavailable)
	})
}
