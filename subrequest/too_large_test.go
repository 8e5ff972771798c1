package subrequest_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// endless is a backend's body of a length. It counts what is read of it.
type endless struct{ left, read int64 }

func (e *endless) Read(p []byte) (int, error) {
	n := min(int64(len(p)), e.left)
	if e.left -= n; n == 0 {
		return 0, io.EOF
	}
	e.read += n
	return int(n), nil
}

// proxy passes a body on as reverse_proxy does, until a write fails.
func proxy(w http.ResponseWriter, r *http.Request, status int, body *endless, declare bool) {
	if declare {
		w.Header().Set("Content-Length", strconv.FormatInt(body.left, 10))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead || r.Context().Err() != nil {
		return
	}
	buf := make([]byte, 32)
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, body, buf); err != nil {
		panic(http.ErrAbortHandler)
	}
}

const gib = 1 << 30

func TestHandlersStopWhenTheBodyIsTooLarge(t *testing.T) {
	for name, c := range map[string]struct {
		method  string
		status  int
		length  int64
		declare bool

		large bool
		kept  int   // bytes of the response
		read  int64 // at most, of the backend's body
	}{
		"declared":              {"GET", 200, gib, true, true, 0, 0},
		"declared, a part":      {"GET", 206, gib, true, true, 0, 0},
		"declared by one byte":  {"GET", 200, 101, true, true, 0, 0},
		"declared, at limit":    {"GET", 200, 100, true, false, 100, 100},
		"not declared":          {"GET", 200, gib, false, true, 0, 128},
		"not declared, by one":  {"GET", 200, 101, false, true, 0, 101},
		"not declared, limit":   {"GET", 200, 100, false, false, 100, 100},
		"head":                  {"HEAD", 200, gib, true, false, 0, 0},
		"refusal, declared":     {"GET", 404, gib, true, false, 100, 128},
		"refusal, not declared": {"GET", 403, gib, false, false, 100, 128},
		"failure":               {"GET", 502, gib, true, false, 100, 128},
	} {
		body := &endless{left: c.length}
		var ended error
		handler := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			defer func() { ended = r.Context().Err() }()
			proxy(w, r, c.status, body, c.declare)
			return nil
		})
		resp, err := subrequest.New(clientRequest(t), handler).Do(httptest.NewRequest(c.method, "/doc", nil), 100)
		switch {
		case errors.Is(err, subrequest.ErrTooLarge) != c.large:
			t.Errorf("%s: %+v, %v", name, resp, err)
		case body.read > c.read:
			t.Errorf("%s: %d bytes were read, want at most %d", name, body.read, c.read)
		case len(resp.Body) != c.kept || resp.Status != c.status:
			t.Errorf("%s: status %d with %d bytes, want %d with %d", name, resp.Status, len(resp.Body), c.status, c.kept)
		case (ended != nil) != (c.large || c.length > 100 && c.method == "GET"):
			t.Errorf("%s: the handlers' context: %v", name, ended)
		}
	}
}

func TestBodyOfDeclaredLengthIsKeptWithoutSlack(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, r *http.Request) error {
		proxy(w, r, http.StatusOK, &endless{left: 99}, true)
		return nil
	})
	if err != nil || len(resp.Body) != 99 || cap(resp.Body) > 99 {
		t.Errorf("%d bytes of %d, %v", len(resp.Body), cap(resp.Body), err)
	}
}
