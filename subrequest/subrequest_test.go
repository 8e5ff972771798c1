package subrequest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// clientRequest returns a request as Caddy's server passes it to handlers.
func clientRequest(t testing.TB) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
}

func replacer(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}

// do makes a subrequest to the handler.
func do(t testing.TB, handler caddyhttp.HandlerFunc) (*subrequest.Response, error) {
	t.Helper()
	return subrequest.New(clientRequest(t), handler).Do(httptest.NewRequest(http.MethodGet, "/doc", nil), 100)
}

func TestResponseKeepsStatusHeaderAndBody(t *testing.T) {
	for _, status := range []int{200, 201, 204, 301, 304, 401, 403, 404, 418, 429, 500, 503} {
		resp, err := do(t, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("X-Path", r.URL.Path)
			w.WriteHeader(status)
			_, err := fmt.Fprint(w, "body")
			return err
		})
		if err != nil || resp.Status != status || resp.Header.Get("X-Path") != "/doc" || string(resp.Body) != "body" {
			t.Errorf("%d: %+v, %v", status, resp, err)
		}
	}
}

func TestBodyWithoutStatusIs200(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
		for range 3 {
			_, _ = fmt.Fprint(w, "x")
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		w.WriteHeader(http.StatusTeapot) // too late
		return nil
	})
	if err != nil || resp.Status != 200 || string(resp.Body) != "xxx" {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestFlushWithoutStatusIs200(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
		defer w.Header().Set("X-Late", "yes")
		return http.NewResponseController(w).Flush()
	})
	if err != nil || resp.Status != 200 || resp.Header.Get("X-Late") != "" {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestHandlerErrorBecomesResponseWithItsStatus(t *testing.T) {
	for _, status := range []int{401, 404, 502, 504} {
		resp, err := do(t, func(http.ResponseWriter, *http.Request) error {
			return fmt.Errorf("wrapped: %w", caddyhttp.Error(status, errors.New("why")))
		})
		if err != nil || resp.Status != status || len(resp.Body) > 0 || resp.Header == nil {
			t.Errorf("%d: %+v, %v", status, resp, err)
		}
	}
}

func TestHandlerErrorKeepsHeader(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Vary", "User-Agent")
		return caddyhttp.Error(http.StatusForbidden, errors.New("why"))
	})
	if err != nil || resp.Header.Get("Vary") != "User-Agent" {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestResponseThatFailsKeepsStatusAndHeader(t *testing.T) {
	for name, handler := range map[string]caddyhttp.HandlerFunc{
		"too large": func(w http.ResponseWriter, _ *http.Request) error {
			_, err := w.Write(make([]byte, 101))
			return err
		},
		"too large, and aborted": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = w.Write(make([]byte, 101))
			panic(http.ErrAbortHandler)
		},
		"aborted": func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = w.Write([]byte("x"))
			panic(http.ErrAbortHandler)
		},
		"an event stream": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			return nil
		},
	} {
		resp, err := do(t, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Vary", "User-Agent")
			return handler(w, r)
		})
		if err == nil || resp == nil || resp.Status != http.StatusOK || resp.Header.Get("Vary") != "User-Agent" || len(resp.Body) > 0 {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
}

func TestErrorWithoutStatusFailsSubrequest(t *testing.T) {
	why := errors.New("why")
	for _, err := range []error{why, caddyhttp.HandlerError{Err: why}} {
		resp, got := do(t, func(http.ResponseWriter, *http.Request) error { return err })
		if resp != nil || !errors.Is(got, why) {
			t.Errorf("%+v, %v", resp, got)
		}
	}
}

func TestRouteWithoutResponseIsError(t *testing.T) {
	for name, handler := range map[string]caddyhttp.HandlerFunc{
		"nothing":       func(http.ResponseWriter, *http.Request) error { return nil },
		"a header only": func(w http.ResponseWriter, _ *http.Request) error { w.Header().Set("A", "b"); return nil },
		"1xx only":      func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(103); return nil },
	} {
		if resp, err := do(t, handler); resp != nil || !errors.Is(err, subrequest.ErrNoResponse) {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
}

func TestInformationalResponsesAreSkipped(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		w.WriteHeader(http.StatusNotFound)
		return nil
	})
	if err != nil || resp.Status != http.StatusNotFound {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestHeaderSetAfterStatusIsIgnored(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
		before := w.Header()
		before.Set("Etag", "1")
		w.WriteHeader(http.StatusOK)
		before.Set("Etag", "2")
		w.Header().Set("Etag", "3")
		w.Header().Set("Vary", "*")
		return nil
	})
	if err != nil || resp.Header.Get("Etag") != "1" || resp.Header.Get("Vary") != "" {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestTooLargeBodyIsRefused(t *testing.T) {
	for _, c := range []struct {
		writes []int
		large  bool
	}{{[]int{100}, false}, {[]int{99, 1, 0}, false}, {[]int{101}, true}, {[]int{100, 1}, true}, {[]int{60, 60, 60}, true}} {
		resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
			for _, n := range c.writes {
				if _, err := w.Write(make([]byte, n)); err != nil {
					panic(http.ErrAbortHandler) // as reverse_proxy does
				}
			}
			return nil
		})
		if got := errors.Is(err, subrequest.ErrTooLarge); got != c.large || (len(resp.Body) == 0) != c.large {
			t.Errorf("%v: %+v, %v", c.writes, resp, err)
		}
	}
}

func TestEventStreamResponseIsRefused(t *testing.T) {
	for contentType, want := range map[string]bool{
		"text/event-stream":                true,
		"Text/Event-Stream; charset=utf-8": true,
		"text/event-streams":               false,
		"application/json":                 false,
	} {
		resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(http.StatusOK)
			if err := http.NewResponseController(w).Flush(); (err != nil) != want {
				t.Errorf("%s: a flush gives %v", contentType, err)
			}
			_, err := fmt.Fprint(w, "data: x\n\n")
			return err
		})
		if errors.Is(err, subrequest.ErrEventStream) != want || len(resp.Body) == 0 != want {
			t.Errorf("%s: %+v, %v", contentType, resp, err)
		}
	}
}

func TestAbortedResponseIsError(t *testing.T) {
	resp, err := do(t, func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = fmt.Fprint(w, "half of")
		panic(http.ErrAbortHandler)
	})
	if len(resp.Body) > 0 || !errors.Is(err, subrequest.ErrAborted) {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestHandlerPanicBecomesErrorWithStack(t *testing.T) {
	for _, p := range []any{"a string", errors.New("an error"), []int{1}} {
		resp, err := do(t, func(http.ResponseWriter, *http.Request) error { panic(p) })
		if resp != nil || err == nil || !strings.Contains(err.Error(), fmt.Sprint(p)) || !strings.Contains(err.Error(), "subrequest_test.go") {
			t.Errorf("%v: %+v, %v", p, resp, err)
		}
	}
}

var errCause = errors.New("the cause")

// A handler's response to a cancelled request isn't the backend's.
func TestCancelledSubrequestReturnsContextCause(t *testing.T) {
	for name, handler := range map[string]caddyhttp.HandlerFunc{
		"499": func(w http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			w.WriteHeader(499)
			return nil
		},
		"502": func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return caddyhttp.Error(http.StatusBadGateway, r.Context().Err())
		},
		"in the middle of the body": func(w http.ResponseWriter, r *http.Request) error {
			_, _ = fmt.Fprint(w, "half of")
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errCause)
			defer cancel()
			req := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
			if _, err := subrequest.New(clientRequest(t), handler).Do(req, 100); !errors.Is(err, errCause) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestSubrequestKeepsUserAndVars(t *testing.T) {
	r := clientRequest(t)
	replacer(r).Set("http.auth.user.id", "ann")
	caddyhttp.SetVar(r.Context(), "tenant", "acme")
	caddyhttp.SetVar(r.Context(), "number", 7)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "203.0.113.9")
	var user, tenant, ip string
	var number any
	c := subrequest.New(r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		user, _ = replacer(r).GetString("http.auth.user.id")
		tenant, _ = replacer(r).GetString("http.vars.tenant")
		number = caddyhttp.GetVar(r.Context(), "number")
		ip, _ = caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	if _, err := c.Do(httptest.NewRequest(http.MethodGet, "/", nil), 100); err != nil {
		t.Fatal(err)
	}
	if user != "ann" || tenant != "acme" || number != 7 || ip != "203.0.113.9" {
		t.Errorf("the handler sees user %q, tenant %q, number %v, address %q", user, tenant, number, ip)
	}
	if c.User() != "ann" || !maps.Equal(c.Vars(), map[string]string{"tenant": "string:acme", "number": "int:7"}) || c.ViaTrustedProxy() {
		t.Errorf("%q, %q, %v", c.User(), c.Vars(), c.ViaTrustedProxy())
	}
}

// An earlier handler may have removed the header that the address is from, and
// the subrequest's own remote address is not what the client's was.
func TestSubrequestHasTheClientsAddressOrAnother(t *testing.T) {
	r := clientRequest(t)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "203.0.113.9")
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
	var got []any
	c := subrequest.New(r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		got = append(got, caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey), caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey))
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	for _, ctx := range []context.Context{t.Context(), subrequest.WithClient(t.Context(), "0.0.0.0", subrequest.Original{})} {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		req.Header.Set("X-Forwarded-For", "10.0.0.1")
		if _, err := c.Do(req, 100); err != nil {
			t.Fatal(err)
		}
	}
	if want := []any{"203.0.113.9", true, "0.0.0.0", true}; !slices.Equal(got, want) {
		t.Errorf("the handler sees %v, want %v", got, want)
	}
	if c.ClientIP() != "203.0.113.9" {
		t.Errorf("%q", c.ClientIP())
	}
}

func TestAnonymousClientStaysAnonymous(t *testing.T) {
	c := subrequest.New(clientRequest(t), caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if user, set := replacer(r).GetString("http.auth.user.id"); set {
			t.Errorf("the user is %q", user)
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	if _, err := c.Do(httptest.NewRequest(http.MethodGet, "/", nil), 100); err != nil || c.User() != "" || len(c.Vars()) > 0 {
		t.Errorf("%v, %q, %q", err, c.User(), c.Vars())
	}
}

func TestTrustedProxyIsRecognized(t *testing.T) {
	r := clientRequest(t)
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
	if !subrequest.New(r, nil).ViaTrustedProxy() {
		t.Error("it is not")
	}
}

func TestSubrequestOutsideServerIsError(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if resp, err := subrequest.New(r, nil).Do(r, 100); resp != nil || err == nil {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestConcurrentSubrequestsAreIsolated(t *testing.T) {
	r := clientRequest(t)
	caddyhttp.SetVar(r.Context(), "tenant", "acme")
	c := subrequest.New(r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		caddyhttp.SetVar(r.Context(), "tenant", r.URL.Path)
		replacer(r).Set("mine", r.URL.Path)
		w.Header().Set("X-Tenant", fmt.Sprint(caddyhttp.GetVar(r.Context(), "tenant")))
		mine, _ := replacer(r).GetString("mine")
		_, err := fmt.Fprint(w, mine)
		return err
	}))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			path := fmt.Sprint("/", i)
			resp, err := c.Do(httptest.NewRequest(http.MethodGet, path, nil), 100)
			if err != nil || string(resp.Body) != path || resp.Header.Get("X-Tenant") != path {
				t.Errorf("%s: %+v, %v", path, resp, err)
			}
		})
	}
	wg.Wait()
	if c.Vars()["tenant"] != "string:acme" {
		t.Errorf("%q", c.Vars())
	}
}
