package subrequest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// recorder is the [http.ResponseWriter] of a subrequest. It records a response
// up to a limit, and stops the handlers as soon as the rest doesn't matter: Write
// fails, and the request's context ends.
type recorder struct {
	cancel  context.CancelCauseFunc
	isHead  bool // the declared length is that of a GET's body
	header  http.Header
	maxBody int64
	status  int
	sent    http.Header // the header at the time of WriteHeader
	body    []byte
	err     error // why the handlers were stopped

	take   func(*Response) http.ResponseWriter // see [Offer]; may be nil
	client http.ResponseWriter                 // has taken the response over
}

// errRefusalCut stops the handlers when a refusal's page reaches the limit. A
// refusal stays a refusal, however long its page is.
var errRefusalCut = errors.New("the rest of the refusal's body is not needed")

func (rec *recorder) stop(err error) {
	rec.err = err
	rec.cancel(err)
}

func (rec *recorder) stopTooLarge() {
	rec.stop(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, rec.maxBody))
}

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	if rec.status != 0 || status < 200 { // a 1xx isn't the final response
		return
	}
	rec.status = status
	rec.sent = rec.header.Clone()
	switch declared := contentLength(rec.sent); {
	case status >= 300:
	case isEventStream(rec.sent):
		if rec.take != nil {
			rec.client = rec.take(rec.head())
		}
		if rec.client == nil {
			rec.stop(ErrEventStream)
		}
	case rec.isHead:
	case declared > rec.maxBody:
		rec.stopTooLarge()
	case declared > 0:
		rec.body = make([]byte, 0, declared)
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	switch {
	case rec.err != nil:
		return 0, rec.err
	case rec.client != nil:
		return rec.client.Write(p)
	}
	n := int(min(int64(len(p)), rec.maxBody-int64(len(rec.body))))
	rec.body = append(rec.body, p[:n]...)
	switch {
	case n == len(p):
		return n, nil
	case rec.status < 300:
		rec.stopTooLarge()
	default:
		rec.stop(errRefusalCut)
	}
	return n, rec.err
}

// contentLength returns the declared length of a body; 0 if there is none.
func contentLength(h http.Header) int64 {
	value := h.Get("Content-Length")
	if value == "" {
		return 0
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// FlushError writes the status 200, as the server does, if there is none.
func (rec *recorder) FlushError() error {
	rec.WriteHeader(http.StatusOK)
	if rec.client != nil {
		return http.NewResponseController(rec.client).Flush()
	}
	return rec.err
}

// panicError makes an error of a handler's panic, which would end the process:
// no server recovers it here. reverse_proxy panics with [http.ErrAbortHandler] if
// the backend's body breaks off, and if its writer refuses to write it. begun says
// whether the response has begun.
func panicError(ctx context.Context, p any, begun bool) error {
	switch {
	case p == http.ErrAbortHandler && ctx.Err() != nil: // the caller cancelled it
		return context.Cause(ctx)
	case p == http.ErrAbortHandler && !begun:
		return ErrConnectionAborted
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
	case rec.err == errRefusalCut:
	case rec.err != nil:
		return rec.head(), rec.err
	case ctx.Err() != nil: // handlers write a 499 or 502 for a cancelled request
		return nil, context.Cause(ctx)
	case errors.As(err, &status) && status.StatusCode != 0:
		return &Response{Status: status.StatusCode, Header: rec.header, Err: err}, nil
	case err != nil:
		return rec.head(), err
	case rec.status == 0:
		return nil, ErrNoResponse
	}
	if cap(rec.body)-len(rec.body) > cap(rec.body)/8 { // its length was not declared
		rec.body = bytes.Clone(rec.body)
	}
	return &Response{Status: rec.status, Header: rec.sent, Body: rec.body}, nil
}

// head returns the response without its body, or nil if there is none yet.
func (rec *recorder) head() *Response {
	if rec.status == 0 {
		return nil
	}
	return &Response{Status: rec.status, Header: rec.sent}
}

func isEventStream(h http.Header) bool {
	const eventStream = "text/event-stream"
	value := h.Get("Content-Type")
	if name, _, _ := strings.Cut(value, ";"); !strings.EqualFold(strings.TrimSpace(name), eventStream) {
		return false
	}
	t, _, err := mime.ParseMediaType(value)
	return err == nil && t == eventStream
}
