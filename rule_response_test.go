package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(responder{})
	httpcaddyfile.RegisterHandlerDirective("test_respond", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return responder{h.RemainingArgs()[0]}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_respond", httpcaddyfile.Before, "reverse_proxy")
}

// responder is a handler that responds in one of the ways of [responses].
type responder struct{ Way string }

func (responder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_respond", New: func() caddy.Module { return new(responder) }}
}

func (h responder) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return responses[h.Way](w, http.NewResponseController(w))
}

// responses are ways to respond with 200 that don't begin with WriteHeader(200).
var responses = map[string]func(http.ResponseWriter, *http.ResponseController) error{
	"flush":     func(_ http.ResponseWriter, c *http.ResponseController) error { return c.Flush() },
	"read_from": func(w http.ResponseWriter, _ *http.ResponseController) error { return copyTo(w, "") },
	"flush_and_write": func(w http.ResponseWriter, c *http.ResponseController) error {
		if err := c.Flush(); err != nil {
			return err
		}
		return copyTo(w, "body")
	},
	"hints_and_flush": func(w http.ResponseWriter, c *http.ResponseController) error {
		w.WriteHeader(http.StatusEarlyHints)
		return c.Flush()
	},
	"hijack": func(_ http.ResponseWriter, c *http.ResponseController) error {
		conn, _, err := c.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return err
	},
}

// copyTo copies with the writer's own ReadFrom, if it has one.
func copyTo(w http.ResponseWriter, s string) error {
	if to, ok := w.(io.ReaderFrom); ok {
		_, err := to.ReadFrom(strings.NewReader(s))
		return err
	}
	_, err := io.WriteString(w, s)
	return err
}

// eachResponse calls f for each way to respond that a protocol has.
func eachResponse(t *testing.T, f func(t *testing.T, way, protocol string)) {
	eachResponseBut(t, "", f)
}

// eachResponseWithStatus leaves out hijacked connections, whose status is
// unknown.
func eachResponseWithStatus(t *testing.T, f func(t *testing.T, way, protocol string)) {
	eachResponseBut(t, "hijack", f)
}

func eachResponseBut(t *testing.T, omitted string, f func(t *testing.T, way, protocol string)) {
	for way := range responses {
		for _, protocol := range protocols {
			if way != omitted && (way != "hijack" || protocol == "HTTP/1.1") {
				t.Run(way+"/"+protocol, func(t *testing.T) { f(t, way, protocol) })
			}
		}
	}
}

func TestRefusalIsNeverAppendedToResponse(t *testing.T) {
	eachResponse(t, func(t *testing.T, way, protocol string) {
		s := startSite(t, "", "sse {\n topic news\n }\n test_respond "+way)
		resp := s.doOver(protocol, "GET", "/", "", "Accept", "text/html")
		if resp.StatusCode != http.StatusOK || strings.Contains(resp.body, "ask for") {
			t.Errorf("got %s %q", resp.Status, resp.body)
		}
	})
}

func TestResponseWithoutStatusInvalidatesViews(t *testing.T) {
	eachResponseWithStatus(t, func(t *testing.T, way, protocol string) {
		doc := newDocument(`1`)
		s := startSite(t, "", fmt.Sprintf("sse {\n poll 1h\n }\n @unsafe method POST\n test_respond @unsafe %s\n reverse_proxy %s", way, startBackend(t, doc.ServeHTTP)))
		c := s.open(protocol, "/api")
		c.expect("", "1")
		doc.set(`2`)
		s.doOver(protocol, "POST", "/api", "")
		c.expect("", "2")
	})
}

func TestForwardTakesResponseWithoutStatusAsSuccess(t *testing.T) {
	eachResponseWithStatus(t, func(t *testing.T, way, protocol string) {
		hub := newHubName()
		s := watchedSite(t, "sse "+hub, fmt.Sprintf(`
			sse /sync {
				hub %[1]s
				webhook {
					verify none
					forward
				}
			}
			sse /async {
				hub %[1]s
				webhook {
					verify none
					forward async
				}
			}
			test_respond %[2]s`, hub, way))
		if resp := s.doOver(protocol, "POST", "/sync", "{}"); resp.StatusCode != http.StatusOK {
			t.Errorf("forward: got %s %q", resp.Status, resp.body)
		}
		s.wantMetric(hub, `webhooks_total{result="accepted",rule="/sync"}`, 1)
		if resp := s.doOver(protocol, "POST", "/async", "{}"); resp.StatusCode != http.StatusAccepted {
			t.Errorf("forward async: got %s %q", resp.Status, resp.body)
		}
		s.wantMetric(hub, `webhook_forwards_total{result="delivered",rule="/async"}`, 1)
	})
}

func TestForwardedWebhookOnHijackedConnectionIsNotPublished(t *testing.T) {
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, fmt.Sprintf("sse /hook {\n hub %s\n webhook {\n verify none\n forward\n }\n }\n test_respond hijack", hub))
	if resp := s.do("POST", "/hook", "{}"); resp.StatusCode != http.StatusOK {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
	s.wantMetric(hub, `webhooks_total{result="app_refused",rule="/hook"}`, 1)
	s.wantMetric(hub, `refusals_total{reason="app_refused",rule="/hook",status="502"}`, 0)
}
