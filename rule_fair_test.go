package caddysse_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// hangingBackend responds to requests for /slow only when the test ends.
type hangingBackend struct {
	address     string
	hang, ended atomic.Int64
}

func startHangingBackend(t *testing.T) *hangingBackend {
	b := new(hangingBackend)
	over := make(chan struct{})
	b.address = startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			b.hang.Add(1)
			defer b.ended.Add(1)
			select {
			case <-over:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "1")
	})
	t.Cleanup(func() { close(over) })
	return b
}

// openHanging opens 200 streams as one client, until the test ends.
func (s *site) openHanging(protocol, format, client string) {
	var opened sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(func() {
		cancel()
		opened.Wait()
	})
	for range 4 { // an HTTP/3 connection has at most a hundred
		other := s.withClients()
		for range 50 {
			n := hangingStreams.Add(1)
			opened.Go(func() {
				resp, err := other.send(ctx, protocol, "GET", fmt.Sprintf(format, n), "", "Accept", "text/event-stream", "X-Forwarded-For", client)
				if err == nil {
					resp.Body.Close()
				}
			})
		}
	}
}

var hangingStreams atomic.Int64

const trustLocal = "servers {\n trusted_proxies static 127.0.0.0/8\n client_ip_headers X-Forwarded-For\n }"

func TestHangingPollsOfOneClientDelayNoOtherViewer(t *testing.T) {
	for _, format := range []string{"/slow?n=%d", "/slow/%d"} {
		for _, protocol := range protocols {
			t.Run(protocol+format, func(t *testing.T) {
				hub, b := newHubName(), startHangingBackend(t)
				s := watchedSite(t, "sse "+hub+"\n"+trustLocal, "sse {\n hub "+hub+"\n name all\n poll 1m {\n timeout 5m\n }\n }\n reverse_proxy "+b.address)
				s.openHanging(protocol, format, "192.0.2.66")
				s.wantMetric(hub, `poll_views{rule="all"}`, 200)
				waitFor(t, "hanging polls", func() bool { return b.hang.Load() >= 50 })
				s.open(protocol, "/fast", "X-Forwarded-For", "198.51.100.1").expect("", "1")
				if n := b.ended.Load(); n > 0 {
					t.Errorf("%d hanging polls ended before", n)
				}
			})
		}
	}
}

func TestHangingAuthorizationChecksOfOneClientDelayNoOtherSubscriber(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			b := startHangingBackend(t)
			s := startSite(t, trustLocal, `
			sse /events/* {
				topic {path.1}
				authorize /{path.1}/{path.2}
			}
			sse /hooks/* {
				webhook {
					verify none
					topic {path.1}
				}
			}
			reverse_proxy `+b.address)
			s.openHanging(protocol, "/events/slow/%d", "192.0.2.66")
			waitFor(t, "hanging checks", func() bool { return b.hang.Load() >= 50 })
			c := s.open(protocol, "/events/fast/1", "X-Forwarded-For", "198.51.100.1")
			s.publish("fast", "hello")
			c.expect("", "hello")
			if n := b.ended.Load(); n > 0 {
				t.Errorf("%d hanging checks ended before", n)
			}
		})
	}
}
