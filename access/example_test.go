package access_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/access"
)

func ExampleTopics_Requested() {
	topics, err := access.NewTopics([]string{"orders/{http.request.uri.query.order}"}, []string{"orders/*"})
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/events?order=7&order=8", nil)
	names, refused := topics.Requested(r, caddy.NewReplacer(), nil)
	fmt.Println(names, refused)
	// Output: [orders/7 orders/8] <nil>
}

func ExampleStreamLimiter() {
	limits := &access.Limits{PerClient: 1}
	var limiter access.StreamLimiter
	slot, _ := limiter.Acquire(limits, "192.0.2.1", "")
	_, refused := limiter.Acquire(limits, "192.0.2.1", "")
	fmt.Println(refused.Status)
	slot.Release()
	_, refused = limiter.Acquire(limits, "192.0.2.1", "")
	fmt.Println(refused)
	// Output:
	// 429
	// <nil>
}
