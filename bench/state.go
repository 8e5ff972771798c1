package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// state is the state of Caddy's process after a garbage collection.
type state struct {
	memory
	streams     int64 // ended before
	rss         int64
	files       int // open, including sockets
	subscribers int // of all hubs
}

func (c *caddyProcess) state() (l state, err error) {
	if l.memory, err = c.command("memory"); err != nil {
		return l, err
	}
	usage, err := c.usage()
	if err != nil {
		return l, err
	}
	l.rss = usage.rss
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	if err != nil {
		return l, err
	}
	l.files = len(files)
	l.subscribers, err = c.subscribers()
	return l, err
}

// subscribers reads the number of subscribers from the admin API.
func (c *caddyProcess) subscribers() (n int, err error) {
	resp, err := http.Get(c.admin + "/sse/hubs")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var list struct{ Hubs []struct{ Followers int } }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return 0, err
	}
	for _, h := range list.Hubs {
		n += h.Followers
	}
	return n, nil
}

// waitUntilQuiet waits until the number of goroutines is the same as 5 s before and there
// are no subscribers. Silent QUIC connections end after 30 s.
func (c *caddyProcess) waitUntilQuiet(ctx context.Context) (last state, err error) {
	http.DefaultClient.CloseIdleConnections() // those of the publisher
	const span = 5 * time.Second
	for before := -1; before != last.Goroutines || last.subscribers > 0; {
		before = last.Goroutines
		if err := pause(ctx, span); err != nil {
			return last, err
		}
		if last, err = c.state(); err != nil {
			return last, err
		}
	}
	return last, nil
}
