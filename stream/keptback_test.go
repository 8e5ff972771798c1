package stream_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

type (
	noFlush       struct{ http.ResponseWriter } // hides Flush
	unwrapping    struct{ http.ResponseWriter }
	failsFlush    struct{ http.ResponseWriter }
	bufferingLate struct {
		http.ResponseWriter
		buffers bool
	}
)

func (w unwrapping) Unwrap() http.ResponseWriter     { return w.ResponseWriter }
func (failsFlush) FlushError() error                 { return http.ErrNotSupported }
func (w *bufferingLate) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *bufferingLate) Buffered() bool              { return w.buffers }
func (w *bufferingLate) WriteHeader(int)             { w.buffers = true }

func TestWriterThatKeepsStreamBackIsNamed(t *testing.T) {
	client := httptest.NewRecorder()
	for name, tc := range map[string]struct {
		w             http.ResponseWriter
		before, later bool
	}{
		"flushes":                  {client, false, false},
		"unwraps":                  {unwrapping{unwrapping{client}}, false, false},
		"has no Flush":             {noFlush{client}, true, true},
		"has none further inside":  {unwrapping{noFlush{client}}, true, true},
		"can't flush":              {failsFlush{client}, false, true},
		"buffers":                  {&bufferingLate{ResponseWriter: client}, false, true},
		"buffers further inside":   {unwrapping{&bufferingLate{ResponseWriter: client}}, false, true},
		"unwraps to one that does": {unwrapping{unwrapping{failsFlush{client}}}, false, true},
	} {
		if err := stream.CheckFlush(tc.w); errors.Is(err, stream.ErrKeptBack) != tc.before {
			t.Errorf("a writer that %s: %v", name, err)
		}
		h, group := newHub(t, store.History{}), new(stream.Group)
		group.End(0)
		summary := stream.Serve(tc.w, get("/"), stream.Source{Cursor: h.Subscribe([]string{"a"})}, group, &options)
		if errors.Is(summary.Err, stream.ErrKeptBack) != tc.later || (summary.Reason == stream.WriteFailed) != tc.later {
			t.Errorf("a writer that %s: the stream ended for %q, %v", name, summary.Reason, summary.Err)
		}
	}
}
