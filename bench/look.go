package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// look is what there is in Caddy's process, after a garbage collection.
type look struct {
	memory
	streams   int64 // that have come and gone before
	rss       int64
	files     int // that are open, sockets too
	followers int // of all hubs
}

func (c *caddyProcess) look() (l look, err error) {
	if l.memory, err = c.tell("memory"); err != nil {
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
	l.followers, err = c.followers()
	return l, err
}

// followers asks the admin API.
func (c *caddyProcess) followers() (n int, err error) {
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

// settle looks until there are as many goroutines as 5 s before, which takes as long as QUIC
// connections that have fallen silent: 30 s.
func (c *caddyProcess) settle(ctx context.Context) (last look, err error) {
	http.DefaultClient.CloseIdleConnections() // those that have published
	const span = 5 * time.Second
	for before := -1; before != last.Goroutines || last.followers > 0; {
		before = last.Goroutines
		if err := pause(ctx, span); err != nil {
			return last, err
		}
		if last, err = c.look(); err != nil {
			return last, err
		}
	}
	return last, nil
}
