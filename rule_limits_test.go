package caddysse_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"testing"
)

func TestStreamBeyondLimitIsRefusedUntilAnotherEnds(t *testing.T) {
	const trusted = "servers {\n trusted_proxies static 127.0.0.0/8\n client_ip_headers X-Forwarded-For\n }"
	backend := startBackend(t, newDocument(`1`).ServeHTTP)
	for _, c := range []struct {
		limit, rule string
		status      int
	}{
		{"max_streams 2", "sse /x {\n topic news\n %s\n }", http.StatusServiceUnavailable},
		{"max_streams 2 per client", "sse /x {\n topic news\n %s\n }", http.StatusTooManyRequests},
		{"max_streams 2", "sse /x {\n poll 1s\n %s\n }\n reverse_proxy " + backend, http.StatusServiceUnavailable},
	} {
		t.Run(c.limit, func(t *testing.T) {
			s := startSite(t, trusted, fmt.Sprintf(c.rule, c.limit))
			for i, protocol := range protocols {
				client := fmt.Sprintf("2001:db8:0:%d::", i)
				first := s.open(protocol, "/x", "X-Forwarded-For", client+"1")
				second := s.open(protocol, "/x", "X-Forwarded-For", client+"2")
				resp := s.doOver(protocol, "GET", "/x", "", "Accept", "text/event-stream", "X-Forwarded-For", client+"3")
				if resp.StatusCode != c.status || resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s: got %s, Retry-After %q", protocol, resp.Status, resp.Header.Get("Retry-After"))
				}
				if resp := s.doOver(protocol, "HEAD", "/x", ""); resp.StatusCode >= 300 {
					t.Errorf("%s: a request for no stream is refused with %s", protocol, resp.Status)
				}
				first.close() // the server may notice after the next request
				second.close()
				s.open(protocol, "/x", "X-Forwarded-For", client+"3").close()
				s.open(protocol, "/x", "X-Forwarded-For", client+"4").close()
			}
		})
	}
}

func TestUserLimitCountsStreamsFromAllAddresses(t *testing.T) {
	s := startSite(t, "", `
	basic_auth {
		ann $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u
		zoe $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u
	}
	sse {
		topic news
		max_streams 1 per user
	}`)
	for _, protocol := range protocols {
		c := s.open(protocol, "/", "Authorization", basicAuth("ann"))
		resp := s.doOver(protocol, "GET", "/", "", "Authorization", basicAuth("ann"))
		if resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s: got %s", protocol, resp.Status)
		}
		s.open(protocol, "/", "Authorization", basicAuth("zoe")).close()
		c.close()
	}
}

// basicAuth returns the Authorization header of a user with the password x.
func basicAuth(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":x"))
}

// A reload moves streams to a configuration with fewer slots while other clients
// wait for one.
func TestReloadNeverRefusesReconnectBecauseOfLimits(t *testing.T) {
	const viewers = 10
	global := "sse {\n drain 300ms\n }\n servers {\n trusted_proxies static 127.0.0.0/8\n client_ip_headers X-Forwarded-For\n }"
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, global, "sse {\n topic news\n max_streams 10\n }")
			var moving sync.WaitGroup
			for i := range viewers {
				address := fmt.Sprintf("192.0.2.%d", i)
				c := s.open(protocol, "/", "X-Forwarded-For", address)
				moving.Go(func() {
					c.ended()
					again, err := s.tryOpen(protocol, "/", "X-Forwarded-For", address)
					if err != nil {
						t.Errorf("%s is locked out: %v", address, err)
						return
					}
					t.Cleanup(again.close)
				})
			}
			s.reload(global, "sse {\n topic news\n max_streams 3\n }")
			moved := make(chan struct{})
			go func() { moving.Wait(); close(moved) }()
			for waiting := true; waiting; {
				select {
				case <-moved:
					waiting = false
				default:
				}
				if c, err := s.tryOpen(protocol, "/", "X-Forwarded-For", "198.51.100.1"); err == nil {
					t.Error("another has acquired the slot")
					c.close()
				}
			}
		})
	}
}
