package caddysse_test

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fullSize reports whether to run long versions of tests that CI shortens.
var fullSize = os.Getenv("CADDY_SSE_FULL") != ""

// openMany opens streams over a protocol, at most fifty per connection.
func (s *site) openMany(protocol string, count int, path string) []*client {
	s.t.Helper()
	const together = 50
	clients := make([]*client, count)
	var opening sync.WaitGroup
	for first := 0; first < count; first += together {
		from := s.withClients()
		opening.Go(func() {
			for i := first; i < min(first+together, count); i++ {
				c, err := from.tryOpen(protocol, path)
				if err != nil {
					s.t.Errorf("opening stream %d over %s: %v", i, protocol, err)
					return
				}
				clients[i] = c
			}
		})
	}
	opening.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
	return clients
}

// ending holds what a client received until its stream ended.
type ending struct {
	names []string
	at    time.Time
	err   error
}

func (c *client) untilEnd() (e ending) {
	for event := range c.events {
		e.names = append(e.names, event.Name)
	}
	e.at, e.err = time.Now(), c.err
	return e
}

func untilEnd(clients []*client) []ending {
	endings := make([]ending, len(clients))
	var reading sync.WaitGroup
	for i, c := range clients {
		reading.Go(func() { endings[i] = c.untilEnd() })
	}
	reading.Wait()
	return endings
}

// Without a grace period, an exiting process ends all streams, including those
// of earlier configurations, and then exits without an error.
func TestSIGTERMEndsAllStreamsWithShutdownEventIfConfigured(t *testing.T) {
	sizes := []int{30}
	if fullSize {
		sizes = []int{1_000, 10_000}
	}
	for _, protocol := range protocols {
		for _, size := range sizes {
			if protocol == "HTTP/3.0" && size > 1_000 {
				continue // not part of the result
			}
			t.Run(fmt.Sprintf("%s/streams=%d", protocol, size), func(t *testing.T) {
				global := "sse {\n drain 10000h\n }" // so that no stream moves by itself
				m := startMortal(t, global, fmt.Sprintf(pubsub, "shutdown_event"))
				early := m.openMany(protocol, size/2, "/events/news")
				m.reload(global, fmt.Sprintf(pubsub, "shutdown_event\n retry 2s"))
				clients := append(early, m.openMany(protocol, size-size/2, "/events/news")...)

				used := m.cpu()
				begun := time.Now()
				if err := m.child.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				endings := untilEnd(clients)
				last := slices.MaxFunc(endings, func(a, b ending) int { return a.at.Compare(b.at) }).at
				if err := m.child.Wait(); err != nil {
					t.Errorf("the process ended with %v", err)
				}
				t.Logf("%d streams over %s ended within %v, the process after %v; it has used %v of CPU for it",
					size, protocol, last.Sub(begun), time.Since(begun), m.child.ProcessState.UserTime()+m.child.ProcessState.SystemTime()-used)
				for i, e := range endings {
					if !slices.Equal(e.names, []string{"shutdown"}) {
						t.Fatalf("client %d got %q, and then %v", i, e.names, e.err)
					}
				}
			})
		}
	}
}

func TestReloadSendsNoShutdownEvent(t *testing.T) {
	for _, protocol := range protocols {
		s := startSite(t, "sse {\n drain 50ms\n }\n sse other", fmt.Sprintf(pubsub, "shutdown_event\n hub other"))
		c := s.open(protocol, "/events/news")
		s.reload("sse {\n drain 50ms\n }\n sse other {\n drain 50ms\n }", fmt.Sprintf(pubsub, "shutdown_event\n hub other"))
		if e := c.untilEnd(); len(e.names) > 0 {
			t.Errorf("%s: a reload sent %q", protocol, e.names)
		}
		c = s.open(protocol, "/events/news")
		s.reload("", "respond gone") // its hub is gone, too
		if e := c.untilEnd(); len(e.names) > 0 {
			t.Errorf("%s: a reload without the hub sent %q", protocol, e.names)
		}
	}
}
