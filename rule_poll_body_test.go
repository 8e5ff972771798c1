package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// transmission responds as Transmission's RPC does (docs/rpc-spec.md there): with 409
// and the session's id, until a request has it.
func transmission(state *atomic.Int64, session string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Header.Get("X-Transmission-Session-Id") != session:
			w.Header().Set("X-Transmission-Session-Id", session)
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "<h1>409: Conflict</h1>")
		case string(body) == `{"method":"torrent-set"}`:
			state.Add(1)
			_, _ = io.WriteString(w, `{"result":"success"}`)
		default:
			w.Header().Set("Content-Type", "application/json; charset=UTF-8")
			_, _ = fmt.Fprintf(w, `{"arguments":{"asked":%s,"type":%q,"n":%d},"result":"success"}`, body, r.Header.Get("Content-Type"), state.Load())
		}
	}
}

func TestEventSourceOfQueryByPost(t *testing.T) {
	var state atomic.Int64
	backend := startBackend(t, transmission(&state, "tkvPq"))
	s := startSite(t, "", "sse /transmission/rpc {\n poll 1h {\n method POST\n body `{\"method\":\"torrent-get\"}`\n select .arguments\n }\n }\n"+`
		reverse_proxy `+backend+` {
			request_buffers 64KiB # the body is read before the response comes
			transport http {
				keepalive off # a connection that Caddy begins, and doesn't need, reads its variables while handle_response sets some
			}
			@handshake status 409
			handle_response @handshake {
				reverse_proxy `+backend+` {
					header_up X-Transmission-Session-Id {rp.header.X-Transmission-Session-Id}
				}
			}
		}`)
	for _, protocol := range protocols {
		c := s.open(protocol, "/transmission/rpc")
		document := func(n int64) string {
			return fmt.Sprintf(`{"asked":{"method":"torrent-get"},"n":%d,"type":"application/json"}`, n)
		}
		c.expect("", document(state.Load()))
		// The page's own POST passes, and is a write.
		resp := s.doOver(protocol, "POST", "/transmission/rpc", `{"method":"torrent-set"}`, "X-Transmission-Session-Id", "tkvPq", "Accept", "text/event-stream")
		if resp.StatusCode != http.StatusOK || resp.body != `{"result":"success"}` {
			t.Errorf("%s: %s, %q", protocol, resp.Status, resp.body)
		}
		c.expect("", document(state.Load()))
		if resp := s.doOver(protocol, "GET", "/transmission/rpc", ""); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: an ordinary GET gets %s", protocol, resp.Status)
		}
	}
}

func TestConfiguredBodyHasTypeOfRequestOrItsOwn(t *testing.T) {
	for _, c := range []struct{ body, header, want string }{
		{`{"a":1}`, "", "application/json"},
		{`a=1&b=2`, "", "application/x-www-form-urlencoded"},
		{`<a/>`, "request_header Content-Type text/xml", "text/xml"},
	} {
		s := startSite(t, "", c.header+"\nsse /rpc {\n poll 1h {\n method POST\n body `"+c.body+"`\n expect */*\n }\n }\n reverse_proxy "+startBackend(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "text/plain")
			_, _ = fmt.Fprint(w, r.Method, " ", r.Header.Get("Content-Type"), " ", string(body))
		}))
		s.open("HTTP/2.0", "/rpc").expect("", "POST "+c.want+" "+c.body)
	}
}
