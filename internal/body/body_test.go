package body_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-sse/caddy-sse/internal/body"
)

func TestReadPutsBodyBack(t *testing.T) {
	for _, content := range []string{"", "hello", strings.Repeat("x", 10)} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(content))
		got, refused := body.Read(httptest.NewRecorder(), r, 10)
		if refused != nil || string(got) != content {
			t.Errorf("%q: %q, %v", content, got, refused)
		}
		if again, err := io.ReadAll(r.Body); err != nil || string(again) != content {
			t.Errorf("%q, the second time: %q, %v", content, again, err)
		}
	}
}

func TestIncompleteBodyIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		body   io.Reader
		status int
	}{
		"too long, as it says":      {strings.NewReader("eleven byte"), http.StatusRequestEntityTooLarge},
		"too long, as it turns out": {io.MultiReader(strings.NewReader("eleven "), strings.NewReader("byte")), http.StatusRequestEntityTooLarge},
		"broken off":                {iotest.ErrReader(errors.New("reset")), http.StatusBadRequest},
		"too slow":                  {iotest.ErrReader(os.ErrDeadlineExceeded), http.StatusRequestTimeout},
		"past another's bound":      {iotest.ErrReader(&http.MaxBytesError{Limit: 5}), http.StatusRequestEntityTooLarge},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", c.body)
		got, refused := body.Read(httptest.NewRecorder(), r, 10)
		if refused == nil || refused.Status != c.status || got != nil {
			t.Errorf("%s: %q, %v, want %d", name, got, refused, c.status)
		}
	}
}

func TestRequestBeforeHandshakeIsEarlyData(t *testing.T) {
	plain := httptest.NewRequest(http.MethodPost, "/", nil)
	whole := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
	early := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
	early.TLS = &tls.ConnectionState{HandshakeComplete: false}
	atAProxy := httptest.NewRequest(http.MethodPost, "/", nil)
	atAProxy.Header.Set("Early-Data", "1")
	for r, want := range map[*http.Request]bool{plain: false, whole: false, early: true, atAProxy: true} {
		if body.IsEarly(r) != want {
			t.Errorf("%+v: %v", r.TLS, !want)
		}
	}
	if body.TooEarly().Status != http.StatusTooEarly {
		t.Error("425 is what a client sends again for")
	}
}
