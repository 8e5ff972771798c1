package subrequest

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// recorder is the [http.ResponseWriter] of a subrequest. It records a response
// up to a limit.
type recorder struct {
	header  http.Header
	maxBody int64
	status  int
	sent    http.Header // the header at the time of WriteHeader
	body    []byte
	err     error
}

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	if rec.status != 0 || status < 200 { // a 1xx isn't the final response
		return
	}
	rec.status = status
	rec.sent = rec.header.Clone()
	if rec.bodyMatters() && isEventStream(rec.sent) {
		rec.err = ErrEventStream
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	remaining := rec.maxBody - int64(len(rec.body))
	if rec.err == nil && int64(len(p)) > remaining && rec.bodyMatters() {
		rec.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, rec.maxBody)
	}
	if rec.err != nil {
		return 0, rec.err
	}
	rec.body = append(rec.body, p[:min(int64(len(p)), remaining)]...)
	return len(p), nil
}

// bodyMatters reports whether the body's type and size may fail the subrequest.
// A refusal stays a refusal, however long its page is.
func (rec *recorder) bodyMatters() bool { return rec.status < 300 }

// FlushError writes the status 200, as the server does, if there is none.
func (rec *recorder) FlushError() error {
	rec.WriteHeader(http.StatusOK)
	return rec.err
}

// panicError makes an error of a handler's panic, which would end the process:
// no server recovers it here. reverse_proxy panics with [http.ErrAbortHandler] if
// the backend's body breaks off, and if the recorder refuses to write it.
func (rec *recorder) panicError(ctx context.Context, p any) error {
	switch {
	case rec.err != nil:
		return rec.err
	case p == http.ErrAbortHandler && ctx.Err() != nil: // the caller cancelled it
		return context.Cause(ctx)
	case p == http.ErrAbortHandler:
		return ErrAborted
	default:
		return fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
	}
}

// response returns the recorded response; err is the handler's error.
func (rec *recorder) response(ctx context.Context, err error) (*Response, error) {
	var status caddyhttp.HandlerError
	switch {
	case rec.err != nil:
		return nil, rec.err
	case ctx.Err() != nil: // handlers write a 499 or 502 for a cancelled request
		return nil, context.Cause(ctx)
	case errors.As(err, &status) && status.StatusCode != 0:
		return &Response{Status: status.StatusCode, Header: make(http.Header), Err: err}, nil
	case err != nil:
		return nil, err
	case rec.status == 0:
		return nil, ErrNoResponse
	}
	return &Response{Status: rec.status, Header: rec.sent, Body: rec.body}, nil
}

func isEventStream(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && t == "text/event-stream"
}
