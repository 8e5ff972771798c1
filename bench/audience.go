package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// audience is a set of open streams.
type audience struct {
	seen   func() // if not nil, called with each event
	gzip   bool   // asks for it: then the end of each compressed event is counted
	cancel context.CancelFunc
	done   sync.WaitGroup
	ended  atomic.Int64 // streams that ended before leave
	events atomic.Int64
	bytes  atomic.Int64 // of bodies
}

// atOnce limits the connections that open at the same time. With many more, a busy
// machine delays the handshakes: Caddy closes an HTTP/2 connection whose client
// sends nothing for 2 s.
const atOnce = 32

// open opens streams. Call leave even if it fails.
func (a *audience) open(ctx context.Context, w *protocol, streams int, url func(i int) string) error {
	ctx, a.cancel = context.WithCancel(ctx)
	errs, slots := make(chan error), make(chan struct{}, atOnce)
	connections := 0
	for first := 0; first < streams; first += w.perConnection {
		last := min(first+w.perConnection, streams)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs <- a.openSome(ctx, w, first, last, url)
		}()
		connections++
	}
	var err error
	for range connections {
		err = errors.Join(err, <-errs)
	}
	return err
}

// openSome opens streams on a new connection, one after the other. If the first
// one fails, it tries up to two more connections, as clients do.
func (a *audience) openSome(ctx context.Context, w *protocol, first, last int, url func(i int) string) error {
	opened, err := a.tryToOpen(ctx, w, first, last, url)
	for range 2 {
		if opened > 0 || err == nil {
			break
		}
		progressf("new connection for stream %d: %v", first, err)
		opened, err = a.tryToOpen(ctx, w, first, last, url)
	}
	return err
}

func (a *audience) tryToOpen(ctx context.Context, w *protocol, first, last int, url func(i int) string) (opened int, err error) {
	conn, err := w.connect()
	if err != nil {
		return 0, err
	}
	for i := first; i < last; i++ {
		coding := "identity"
		if a.gzip {
			coding = "gzip"
		}
		body, err := openStream(ctx, w, conn.Client, url(i), "Accept-Encoding", coding)
		if err != nil {
			conn.Close()
			return i - first, err
		}
		a.done.Go(func() { a.read(ctx, body) })
	}
	context.AfterFunc(ctx, conn.Close)
	return last - first, nil
}

// openStream makes a request whose response must be a stream. header alternates
// names and values.
func openStream(ctx context.Context, w *protocol, client *http.Client, url string, header ...string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || resp.Proto != w.proto {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s %s", url, resp.Proto, resp.Status)
	}
	return resp.Body, nil
}

func (a *audience) read(ctx context.Context, body io.ReadCloser) {
	defer body.Close()
	end := "\n\n"
	if a.gzip {
		end = "\x00\x00\xff\xff"
	}
	_ = readUntil(countingReader{body, &a.bytes}, end, func([]byte) {
		a.events.Add(1)
		if a.seen != nil {
			a.seen()
		}
	})
	if ctx.Err() == nil {
		a.ended.Add(1)
	}
}

func (a *audience) leave() {
	a.cancel()
	a.done.Wait()
}

// countingReader counts what is read.
type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}
