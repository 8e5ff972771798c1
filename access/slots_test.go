package access_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// hanging responds with 200 at once, except to requests for /slow: to these, it
// responds when their time is over.
func hanging(r *http.Request) (*subrequest.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/slow") {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	return responds(200)(r)
}

// wantGrantAtOnce reports an error unless the backend's decision reaches the
// client at once.
func wantGrantAtOnce(t *testing.T, a *access.Authorizer, b *backend, client, uri string) {
	t.Helper()
	start := time.Now()
	grant, refused := open(t, a, requester{backend: b, client: client}, uri)
	if refused != nil || grant.Failure != nil || time.Since(start) > 0 {
		t.Errorf("%s waited %v for the check of %s, refused: %v, failed: %v", client, time.Since(start), uri, refused != nil, grant.Failure)
	}
	grant.End()
}

func TestHangingChecksOfOneClientDelayNoOtherClient(t *testing.T) {
	for name, c := range map[string]struct{ opened, wanted string }{
		"one path":                 {"/slow?n=%d", "/fast"},
		"many paths":               {"/slow/%d", "/fast"},
		"the path of both clients": {"/slow?n=%d", "/slow"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := authorizer()
				b := &backend{respond: func(r *http.Request) (*subrequest.Response, error) {
					if r.RequestURI == c.wanted {
						return responds(200)(r)
					}
					return hanging(r)
				}}
				var callers sync.WaitGroup
				for i := range 900 {
					callers.Go(func() {
						grant, _ := open(t, a, requester{backend: b, client: "192.0.2.66"}, fmt.Sprintf(c.opened, i))
						grant.End()
					})
				}
				synctest.Wait()
				wantGrantAtOnce(t, a, b, "198.51.100.1", c.wanted)
				callers.Wait()
			})
		})
	}
}

func TestHangingRechecksDelayNoNewStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: responds(200)}
		for i := range 900 {
			client := requester{backend: b, client: fmt.Sprint(i)}
			grant, _, err := a.Authorize(t.Context(), access.NewPrincipal(request(), client), []string{fmt.Sprint("/slow/", i)}, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer grant.End()
		}
		b.set(hanging)
		time.Sleep(2 * time.Minute) // each was slow before
		synctest.Wait()
		wantGrantAtOnce(t, a, b, "198.51.100.1", "/fast")
	})
}
