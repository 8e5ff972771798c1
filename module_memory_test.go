package caddysse_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// A backend with a GiB to send, whether it says so or not, loses the connection
// at the limit: of a document, whose viewers get 502, and of a refusal's page,
// which viewers get up to the limit.
func TestHugeResponseIsNotReadBeyondTheLimit(t *testing.T) {
	const size, chunk = 1 << 30, 1 << 20
	for _, status := range []int{http.StatusOK, http.StatusNotFound, http.StatusForbidden} {
		for _, declared := range []bool{true, false} {
			var whole atomic.Bool
			s := polled(t, "1h {\n max_body 64KiB\n }", func(w http.ResponseWriter, _ *http.Request) {
				if declared {
					w.Header().Set("Content-Length", strconv.Itoa(size))
				}
				w.WriteHeader(status)
				for range size / chunk {
					if _, err := w.Write(make([]byte, chunk)); err != nil {
						return
					}
				}
				whole.Store(true)
			})
			resp := s.do("GET", "/api/huge", "", "Accept", "text/event-stream")
			want, body := status, strings.Repeat("\x00", 64<<10)
			if status == http.StatusOK {
				want, body = http.StatusBadGateway, ""
			}
			if resp.StatusCode != want || !strings.HasPrefix(resp.body, body) || len(resp.body) > 64<<10 || whole.Load() {
				t.Errorf("status %d, declared %v: got %s with %d bytes; the whole GiB was read: %v", status, declared, resp.Status, len(resp.body), whole.Load())
			}
		}
	}
}
