package subrequest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// stream makes a request to a handler, and returns what begin gets and the body.
func stream(t *testing.T, handler caddyhttp.HandlerFunc) (resp *subrequest.Response, body string, err error) {
	t.Helper()
	var out bytes.Buffer
	resp, err = subrequest.New(clientRequest(t), handler).Stream(httptest.NewRequest(http.MethodGet, "/doc", nil), func(*subrequest.Response) (io.Writer, error) { return &out, nil })
	return resp, out.String(), err
}

func TestStreamHandsResponseOverAsItComes(t *testing.T) {
	var out bytes.Buffer
	handler := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("X-Path", r.URL.Path)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNotFound)
		w.Header().Set("X-Late", "yes")
		for i := range 3 {
			if _, err := fmt.Fprint(w, i); err != nil || out.Len() != i+1 {
				t.Errorf("after %d writes: %q, %v", i+1, out.String(), err)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	resp, err := subrequest.New(clientRequest(t), handler).Stream(httptest.NewRequest(http.MethodGet, "/doc", nil), func(resp *subrequest.Response) (io.Writer, error) {
		if resp.Status != http.StatusNotFound || resp.Header.Get("X-Path") != "/doc" || resp.Header.Get("X-Late") != "" {
			t.Errorf("%+v", resp)
		}
		return &out, nil
	})
	if err != nil || resp.Status != http.StatusNotFound || out.String() != "012" {
		t.Errorf("%+v, %v, %q", resp, err, out.String())
	}
}

func TestStreamSaysHowResponseEnds(t *testing.T) {
	why := errors.New("why")
	for name, c := range map[string]struct {
		handler caddyhttp.HandlerFunc
		status  int
		body    string
		err     error
	}{
		"nothing":       {func(http.ResponseWriter, *http.Request) error { return nil }, 0, "", subrequest.ErrNoResponse},
		"an empty body": {func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(204); return nil }, 204, "", nil},
		"a flush":       {func(w http.ResponseWriter, _ *http.Request) error { return http.NewResponseController(w).Flush() }, 200, "", nil},
		"an error":      {func(http.ResponseWriter, *http.Request) error { return why }, 0, "", why},
		"an aborted response": {func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = fmt.Fprint(w, "x")
			panic(http.ErrAbortHandler)
		}, 200, "x", subrequest.ErrAborted},
		"an aborted request":   {func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, 0, "", subrequest.ErrConnectionAborted},
		"an error in the body": {func(w http.ResponseWriter, _ *http.Request) error { _, _ = fmt.Fprint(w, "x"); return why }, 200, "x", why},
	} {
		resp, body, err := stream(t, c.handler)
		status := 0
		if resp != nil {
			status = resp.Status
		}
		if status != c.status || body != c.body || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %q, %v", name, status, body, err)
		}
	}
	resp, _, err := stream(t, func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, why) })
	if err != nil || resp.Status != 502 || !errors.Is(resp.Err, why) {
		t.Errorf("an error with a status: %+v, %v", resp, err)
	}
}

// refusing is a writer that refuses all.
type refusing struct{ err error }

func (w refusing) Write([]byte) (int, error) { return 0, w.err }

func TestErrorOfReaderStopsHandlers(t *testing.T) {
	why := errors.New("why")
	for name, begin := range map[string]subrequest.Begin{
		"at the beginning": func(*subrequest.Response) (io.Writer, error) { return nil, why },
		"at a write":       func(*subrequest.Response) (io.Writer, error) { return refusing{why}, nil },
	} {
		handler := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			w.WriteHeader(http.StatusOK)
			if _, err := fmt.Fprint(w, "x"); !errors.Is(err, why) || r.Context().Err() == nil || http.NewResponseController(w).Flush() == nil {
				t.Errorf("%s: the handler may go on (%v)", name, err)
			}
			panic(http.ErrAbortHandler)
		})
		resp, err := subrequest.New(clientRequest(t), handler).Stream(httptest.NewRequest(http.MethodGet, "/", nil), begin)
		if !errors.Is(err, why) || resp.Status != http.StatusOK {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
}

// Handlers write a 499 or 502 for a cancelled request, which is not the backend's.
func TestCancelledStreamReturnsContextCause(t *testing.T) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := subrequest.New(clientRequest(t), caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(499)
		return nil
	})).Stream(httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), func(*subrequest.Response) (io.Writer, error) {
		t.Error("it begins")
		return io.Discard, nil
	})
	if !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}
