package subrequest

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Begin is called with the status and the header of a response, before its body
// comes. It returns what the body is written to, on the same goroutine. If that has
// a method FlushError, or is an [http.ResponseWriter], the handlers also flush it,
// and set a ResponseWriter's trailers. An error of Begin, or of a write, stops the
// handlers.
type Begin func(*Response) (io.Writer, error)

// Stream makes a request like [Requester.Do], and hands the response's body over as
// it comes. It returns nil as error if the response is complete. If a handler
// returns an error with a status in place of a response, Stream returns the
// response with that error, and doesn't call begin.
func (q *Requester) Stream(req *http.Request, begin Begin) (resp *Response, err error) {
	if q.server == nil {
		return nil, errNoServer
	}
	caller := req.Context()
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	w := &streamWriter{ctx: caller, cancel: cancel, header: make(http.Header), begin: begin}
	defer func() {
		if p := recover(); p != nil {
			resp, err = w.response(panicError(caller, p, w.head != nil))
		}
	}()
	return w.response(q.serve(ctx, req, w))
}

type subrequestKey struct{}

// Is reports whether a request is a subrequest of any rule: the rules behind that
// one receive its polls and authorization checks like a client's requests.
func Is(r *http.Request) bool { return r.Context().Value(subrequestKey{}) != nil }

// serve calls the handlers, with a context of the request's.
func (q *Requester) serve(ctx context.Context, req *http.Request, w http.ResponseWriter) error {
	repl, client := caddy.NewReplacer(), clientOf(ctx)
	*req = *req.WithContext(context.WithValue(ctx, subrequestKey{}, true)) // PrepareRequest copies it
	req = caddyhttp.PrepareRequest(req, repl, w, q.server)
	if client != nil {
		restoreOriginal(req, client.original)
	}
	q.restoreClient(req.Context(), repl, client)
	return q.handler.ServeHTTP(w, req)
}

// streamWriter is the [http.ResponseWriter] of [Requester.Stream].
type streamWriter struct {
	ctx    context.Context // the caller's
	cancel context.CancelCauseFunc
	header http.Header
	begin  Begin
	head   *Response // nil until begin is called
	to     io.Writer
	err    error // why the handlers were stopped
}

// Header implements [http.ResponseWriter].
func (w *streamWriter) Header() http.Header {
	if to, ok := w.to.(http.ResponseWriter); ok {
		return to.Header()
	}
	return w.header
}

// WriteHeader implements [http.ResponseWriter].
func (w *streamWriter) WriteHeader(status int) {
	if w.head != nil || w.err != nil || status < 200 { // a 1xx isn't the final response
		return
	}
	if w.ctx.Err() != nil { // handlers write a 499 or 502 for a cancelled request
		w.stop(context.Cause(w.ctx))
		return
	}
	w.head = &Response{Status: status, Header: w.header.Clone()}
	to, err := w.begin(w.head)
	if err != nil {
		w.stop(err)
		return
	}
	w.to = to
}

func (w *streamWriter) stop(err error) {
	w.err = err
	w.cancel(err)
}

// Write implements [http.ResponseWriter].
func (w *streamWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.to.Write(p)
	if err != nil {
		w.stop(err)
	}
	return n, err
}

// FlushError writes the status 200, as the server does, if there is none.
func (w *streamWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if w.err != nil {
		return w.err
	}
	switch to := w.to.(type) {
	case http.ResponseWriter:
		return http.NewResponseController(to).Flush()
	case interface{ FlushError() error }:
		return to.FlushError()
	}
	return nil
}

// response returns the response; err is the handlers' error.
func (w *streamWriter) response(err error) (*Response, error) {
	var status caddyhttp.HandlerError
	switch {
	case w.err != nil:
		return w.head, w.err
	case w.ctx.Err() != nil:
		return w.head, context.Cause(w.ctx)
	case w.head == nil && errors.As(err, &status) && status.StatusCode != 0:
		return &Response{Status: status.StatusCode, Header: w.header, Err: err}, nil
	case err == nil && w.head == nil:
		return nil, ErrNoResponse
	}
	return w.head, err
}
