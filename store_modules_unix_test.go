//go:build unix

package caddysse_test

import (
	"fmt"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// limitFiles makes writes beyond a file size fail, as on a full disk, until the
// returned function is called.
func limitFiles(t *testing.T, size uint64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limited := before
	limited.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
	t.Cleanup(lift)
	return lift
}

func TestFullDiskRefusesWebhooksUntilSpaceIsFree(t *testing.T) {
	s, _ := startFile(t, "")
	c := s.open("HTTP/1.1", "/events/news")
	lift := limitFiles(t, 2<<20)
	published := 0
	for {
		resp := s.do("POST", "/hooks/news", fmt.Sprint(published, strings.Repeat("x", 100<<10)))
		if resp.StatusCode != http.StatusAccepted {
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("after %d events: %s, Retry-After: %q", published, resp.Status, resp.Header.Get("Retry-After"))
			}
			break
		}
		if c.next(); published > 1000 {
			t.Fatal("the disk is never full")
		}
		published++
	}
	lift()
	s.publish("news", "there is room")
	c.expect("", "there is room")
}
