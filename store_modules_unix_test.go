//go:build unix

package caddysse_test

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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

// A file that is truncated under a running Caddy makes the store fail. It must
// not make requests or the exit wait.
func TestTruncatedFileRefusesWebhooksAtOnceAndDoesNotDelayExit(t *testing.T) {
	for _, size := range []int64{0, 8192} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sse")
			m := startMortal(t, "grace_period 2s\n"+fileStore(dir, ""), fmt.Sprintf(pubsub, ""))
			c := m.open("HTTP/2.0", "/events/news")
			m.publish("news", strings.Repeat("x", 20_000))
			c.next()
			if err := os.Truncate(filepath.Join(dir, "default.db"), size); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				begun := time.Now()
				resp := m.do("POST", "/hooks/news", "y")
				if took := time.Since(begun); resp.StatusCode != http.StatusServiceUnavailable || took > 5*time.Second {
					t.Errorf("the webhook is answered with %s after %v", resp.Status, took)
				}
			}
			if err := m.child.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			exited := make(chan struct{})
			go func() {
				defer close(exited)
				_ = m.child.Wait()
			}()
			select {
			case <-exited:
			case <-time.After(10 * time.Second):
				t.Error("Caddy does not exit")
			}
			m.kill()
			<-exited
		})
	}
}
