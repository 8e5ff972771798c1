package caddysse_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
)

// The headers are those that urql and MCP clients send.
func TestRequestThatListsStreamsAfterOtherTypesReachesBackendOnce(t *testing.T) {
	var requests atomic.Int64
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"data":{"ok":true}}`)
	})
	s := startSite(t, "", `
		@posts method POST
		sse @posts {
			poll 200ms {
				method POST
			}
		}
		sse {
			poll 200ms
		}
		reverse_proxy `+backend)
	for _, accept := range []string{
		"application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed",
		"application/json, text/event-stream",
	} {
		for _, method := range []string{"POST", "GET"} {
			for _, protocol := range protocols {
				before := requests.Load()
				resp := s.doOver(protocol, method, "/graphql", `{"query":"mutation { pay }"}`, "Accept", accept, "Content-Type", "application/json")
				if resp.StatusCode != http.StatusOK || resp.body != `{"data":{"ok":true}}` {
					t.Errorf("%s %s with %q: %s %q", protocol, method, accept, resp.Status, resp.body)
				}
				if n := requests.Load() - before; n != 1 {
					t.Errorf("%s %s with %q: the backend got %d requests", protocol, method, accept, n)
				}
			}
		}
	}
}
