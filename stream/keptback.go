package stream

import (
	"errors"
	"fmt"
	"net/http"
)

// ErrKeptBack means that a handler around the stream keeps back what the stream
// writes, so that the client would receive it only when the stream has ended.
var ErrKeptBack = errors.New("a handler before the rule keeps back what streams write")

// CheckFlush returns an error that wraps [ErrKeptBack] and names the writer if
// flushes of w don't reach the client: a wrapper around the server's writer has
// neither Flush nor Unwrap.
func CheckFlush(w http.ResponseWriter) error {
	for {
		switch wrapper := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return nil
		case interface{ Unwrap() http.ResponseWriter }:
			w = wrapper.Unwrap()
		default:
			return noFlush(w)
		}
	}
}

func noFlush(w http.ResponseWriter) error {
	return fmt.Errorf("%w: its response writer %T has neither Flush nor Unwrap", ErrKeptBack, w)
}

// checkBuffer returns an error that wraps [ErrKeptBack] if a wrapper has decided
// to buffer the response, as those of Caddy's package caddyhttp can. They decide
// when the status is written.
func checkBuffer(w http.ResponseWriter) error {
	for {
		if recorder, ok := w.(interface{ Buffered() bool }); ok && recorder.Buffered() {
			return fmt.Errorf("%w: its response writer %T buffers the response", ErrKeptBack, w)
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = wrapper.Unwrap()
	}
}
