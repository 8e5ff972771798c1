package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/caddy-sse/caddy-sse/internal/hostile"
)

func TestRapidStreamResetsLeakNothing(t *testing.T) {
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, fmt.Sprintf(`
		sse /hooks/* {
			hub %[1]s
			webhook {
				verify none
				topic news
			}
		}
		sse /events {
			hub %[1]s
			name watched
			topic news
		}`, hub))
	reader := s.open("HTTP/1.1", "/events")
	for range 5 {
		c, err := hostile.NewHTTP2(s.dial(s.https), "localhost", insecure, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = c.ReadFrames(func(http2.Frame) {}) // until it is closed, also by the server
		}()
		for range 1000 {
			stream, err := c.Get("/events")
			if err == nil {
				err = c.Reset(stream)
			}
			if err != nil { // the server has closed it
				break
			}
		}
		s.publish("", "still here")
		reader.expect("", "still here")
		c.Close()
		<-ended
	}
	s.wantMetric(hub, `streams{proto="2",rule="watched"}`, 0)
	s.wantMetric(hub, `streams{proto="1",rule="watched"}`, 1)
	_, hubs := s.requestAdmin("GET", "/sse/hubs")
	_, own, _ := strings.Cut(hubs, `"hub":"`+hub+`"`)
	if own, _, _ = strings.Cut(own, "}"); !strings.Contains(own, `"topics":1,"followers":1`) {
		t.Errorf("cursors are left: %s", hubs)
	}
}

func TestOversizedHeadersAreRefusedAndLongPositionsReset(t *testing.T) {
	s := startPubsub(t, "")
	s.publish("news", "before")
	for _, protocol := range protocols {
		c := s.open(protocol, "/events/news", "Last-Event-ID", strings.Repeat("x", 14<<10))
		if e := c.next(); e.Name != "reset" {
			t.Errorf("%s: a position that nobody can have is answered with event %q", protocol, e.Name)
		}
		c.close()
	}
	resp := s.do("GET", "/events/news", "", "Accept", "text/event-stream", "Last-Event-ID", strings.Repeat("x", 1<<20))
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a position of a megabyte is answered with %s", resp.Status)
	}
}
