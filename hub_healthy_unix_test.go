//go:build unix

package caddysse_test

import (
	"fmt"
	"net/http"
	"os"
	"testing"
)

func TestHealthyStopsMatchingWhileCaddyExits(t *testing.T) {
	m := startMortal(t, "shutdown_delay 3s", fmt.Sprintf(healthDirectives, "")+"sse /events {\n topic news\n }")
	c := m.open("HTTP/2.0", "/events")
	if resp := m.do("GET", "/healthz", ""); resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s", resp.Status)
	}
	if err := m.child.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "503", func() bool { return m.do("GET", "/healthz", "").StatusCode == http.StatusServiceUnavailable })
	select {
	case _, ok := <-c.events:
		t.Errorf("the stream has ended, or an event: %t", ok)
	default:
	}
	c.ended()
}
