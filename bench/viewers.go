package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// viewer is one client that keeps up with the newest version.
type viewer struct {
	client  *http.Client
	url     string
	changes *changeLog
	seen    int
	delays  []time.Duration // from each change until the viewer had it
}

func (v *viewer) see(data []byte) {
	if n, ok := versionIn(data); ok && n > v.seen {
		v.seen = n
		v.delays = append(v.delays, v.changes.since(n))
	}
}

func (v *viewer) get(ctx context.Context, header, value string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url, nil)
	if err != nil {
		return nil, err
	}
	if value != "" {
		req.Header.Set(header, value)
	}
	return v.client.Do(req)
}

// poll requests the document every interval, starting at a random moment, until
// the context ends.
func (v *viewer) poll(ctx context.Context, interval time.Duration, conditional bool) error {
	if pause(ctx, rand.N(interval)) != nil {
		return nil
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var etag string
	for {
		tag, err := v.ask(ctx, etag)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if conditional {
			etag = tag
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (v *viewer) ask(ctx context.Context, etag string) (string, error) {
	resp, err := v.get(ctx, "If-None-Match", etag)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotModified {
		return "", errors.New(resp.Status)
	}
	v.see(body)
	return resp.Header.Get("ETag"), nil
}

// stream opens a stream and reads it until the context ends. It calls opened at the
// first event.
func (v *viewer) stream(ctx context.Context, opened func()) error {
	resp, err := v.get(ctx, "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	err = readEvents(resp.Body, func(data []byte) {
		if opened != nil && bytes.Contains(data, []byte("data:")) {
			opened()
			opened = nil
		}
		v.see(data)
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the stream ended: %w", err)
}

// readEvents splits a stream at its empty lines. It does not parse them, because a
// parser's work would distort the measurement.
func readEvents(r io.Reader, see func(data []byte)) error { return readUntil(r, "\n\n", see) }

// readUntil calls see with what comes before each separator.
func readUntil(r io.Reader, separator string, see func(data []byte)) error {
	var data []byte
	chunk := make([]byte, 16<<10)
	for {
		n, err := r.Read(chunk)
		data = append(data, chunk[:n]...)
		for {
			end := bytes.Index(data, []byte(separator))
			if end < 0 {
				break
			}
			see(data[:end])
			data = slices.Delete(data, 0, end+len(separator))
		}
		if err != nil {
			return err
		}
	}
}

// crowd is a set of running viewers.
type crowd struct {
	viewers []*viewer
	bytes   atomic.Int64 // received by their connections
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	failed error // the first
	client *http.Client
}

// gather starts viewers with one connection each.
func gather(ctx context.Context, n int, url string, changes *changeLog, task func(context.Context, *viewer) error) *crowd {
	c := new(crowd)
	c.client = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: n, DisableCompression: true, DialContext: c.dial,
		ReadBufferSize: 16 << 10, // a document in one read, to keep the viewers' own work small
	}}
	ctx, c.cancel = context.WithCancel(ctx)
	for range n {
		v := &viewer{client: c.client, url: url, changes: changes}
		c.viewers = append(c.viewers, v)
		c.done.Go(func() { c.fail(task(ctx, v)) })
	}
	return c
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
}

// byChange returns the median delay of each change. Differences between them show
// other work on the machine.
func (c *crowd) byChange() (medians []time.Duration) {
	for k := 0; ; k++ {
		var delays []time.Duration
		for _, v := range c.viewers {
			if k < len(v.delays) {
				delays = append(delays, v.delays[k])
			}
		}
		if len(delays) == 0 {
			return medians
		}
		medians = append(medians, median(delays).Round(time.Millisecond/10))
	}
}

// leave ends all viewers and returns their delays, sorted.
func (c *crowd) leave() ([]time.Duration, error) {
	c.cancel()
	c.done.Wait()
	c.client.CloseIdleConnections()
	var delays []time.Duration
	for _, v := range c.viewers {
		delays = append(delays, v.delays...)
	}
	slices.Sort(delays)
	return delays, c.failed
}

func (c *crowd) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &countingConn{conn, &c.bytes}, err
}

type countingConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}
