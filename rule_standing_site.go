package caddysse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// siteTransport makes the requests for standing feeds that are paths: they go through
// all handlers of the rule's own server, as a client's requests do.
type siteTransport struct{ server *caddyhttp.Server }

type feedKey struct{}

// isForFeed reports whether a request is one of this module for a standing feed. Rules
// with standing feeds pass it, so that no feed is made of itself.
func isForFeed(r *http.Request) bool { return r.Context().Value(feedKey{}) != nil }

// RoundTrip implements [http.RoundTripper].
func (t siteTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	reader, writer := io.Pipe()
	w := &pipedResponse{header: make(http.Header), body: writer, begun: make(chan struct{})}
	go func() {
		err := t.serve(w, t.request(ctx, req))
		if err == nil {
			w.WriteHeader(http.StatusOK) // as the server does
		}
		w.end(err)
	}()
	select {
	case <-w.begun:
	case <-ctx.Done():
		w.end(ctx.Err())
	}
	// A handler may go on without heeding ctx: Caddy's FastCGI waits for its backend.
	context.AfterFunc(ctx, func() { reader.CloseWithError(context.Cause(ctx)) })
	body := &pipedBody{reader, cancel}
	if w.head == nil {
		body.Close()
		return nil, w.err
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Header: w.head, Body: body, Request: req,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
	}, nil
}

// request returns the request as the server would receive it, from this machine.
func (t siteTransport) request(ctx context.Context, req *http.Request) *http.Request {
	r := req.Clone(context.WithValue(ctx, feedKey{}, true))
	r.RequestURI, r.RemoteAddr, r.Body = r.URL.RequestURI(), "127.0.0.1:0", http.NoBody
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	if r.URL.Scheme == "https" {
		name, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			name = r.Host
		}
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: strings.Trim(name, "[]")}
	}
	r.URL.Scheme, r.URL.Host = "", ""
	return r
}

func (t siteTransport) serve(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errors.New("the response broke off")
		default:
			err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	t.server.ServeHTTP(w, r)
	return nil
}

// pipedResponse is the [http.ResponseWriter] of a request of [siteTransport].
type pipedResponse struct {
	header http.Header
	body   *io.PipeWriter

	once   sync.Once
	begun  chan struct{} // closed when the fields below are set
	status int
	head   http.Header // nil: there is no response
	err    error
}

func (w *pipedResponse) Header() http.Header { return w.header }

func (w *pipedResponse) WriteHeader(status int) {
	if status < 200 {
		return
	}
	w.once.Do(func() {
		w.status, w.head = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *pipedResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// FlushError has nothing to flush: a write returns when it is read.
func (w *pipedResponse) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// end ends the response; err is nil if it is complete.
func (w *pipedResponse) end(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.begun)
	})
	w.body.CloseWithError(err)
}

type pipedBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the request.
func (b *pipedBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
