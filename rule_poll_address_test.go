package caddysse_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// insideOnly is a site whose document is only for clients with a private
// address. Every client of the tests has 127.0.0.1.
const insideOnly = `
	%s
	sse /internal/* {
		poll 200ms {
			%s
		}
	}
	sse /topic {
		topic secrets
		authorize /internal/topic
	}
	@inside client_ip private_ranges 127.0.0.0/8
	handle @inside {
		respond ` + "`\"secret\"`" + `
	}
	respond 403`

// strangerIP is a public address, which only a header tells.
const strangerIP = "203.0.113.9"

// A proxy on this machine tells the addresses of its clients. It may also be
// told what to leave out by a client's Connection header.
func TestStrangerBehindTrustedProxyIsNotPolledAsProxy(t *testing.T) {
	const byForwardedFor, byFly = "trusted_proxies static 127.0.0.1/32", "trusted_proxies static 127.0.0.1/32\nclient_ip_headers Fly-Client-IP"
	for name, c := range map[string]struct {
		servers, before, options string
		header                   []string
	}{
		"the server's own header":    {byFly, "", "vary none", []string{"Fly-Client-IP", strangerIP}},
		"any other header":           {"trusted_proxies static 127.0.0.1/32\nclient_ip_headers X-Told-By", "", "vary none", []string{"X-Told-By", strangerIP}},
		"the second header":          {"trusted_proxies static 127.0.0.1/32\nclient_ip_headers X-Told-By Fly-Client-IP", "", "vary none", []string{"Fly-Client-IP", strangerIP}},
		"strictly":                   {byFly + "\ntrusted_proxies_strict", "", "vary none", []string{"Fly-Client-IP", strangerIP}},
		"X-Forwarded-For":            {byForwardedFor, "", "vary none", []string{"X-Forwarded-For", strangerIP}},
		"strictly X-Forwarded-For":   {byForwardedFor + "\ntrusted_proxies_strict", "", "vary none", []string{"X-Forwarded-For", "10.0.0.1, " + strangerIP}},
		"without vary":               {byFly, "", "", []string{"Fly-Client-IP", strangerIP}},
		"with a cookie":              {byFly, "", "vary Cookie", []string{"Fly-Client-IP", strangerIP, "Cookie", "a=1"}},
		"a header that is removed":   {byFly, "request_header -Fly-Client-IP", "vary none", []string{"Fly-Client-IP", strangerIP}},
		"removed beside a cookie":    {byFly, "request_header -Fly-Client-IP", "", []string{"Fly-Client-IP", strangerIP, "Cookie", "a=1"}},
		"Connection":                 {byForwardedFor, "", "", []string{"X-Forwarded-For", strangerIP, "Connection", "X-Forwarded-For"}},
		"Connection, vary none":      {byForwardedFor, "", "vary none", []string{"X-Forwarded-For", strangerIP, "Connection", "x-forwarded-for"}},
		"Connection beside a cookie": {byForwardedFor, "", "", []string{"X-Forwarded-For", strangerIP, "Cookie", "a=1", "Connection", "X-Forwarded-For"}},
		"Connection, the server's":   {byFly, "", "", []string{"Fly-Client-IP", strangerIP, "Connection", "close, Fly-Client-IP"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, "servers {\n"+c.servers+"\n}", fmt.Sprintf(insideOnly, c.before, c.options))
			s.refuses("/internal/x", c.header...)
			s.refuses("/topic", c.header...)
		})
	}
}

// The backend learns of an anonymous poll's address by the headers that
// reverse_proxy adds or passes on.
func TestBackendIsToldNoAddressOfAnonymousViewers(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q", []string{r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Real-Ip"), r.Header.Get("Fly-Client-Ip"), r.Header.Get("X-Peer"), r.Header.Get("X-Client")})
	})
	for name, c := range map[string]struct{ servers, told, want string }{
		"directly":               {"", "Fly-Client-IP", `["0.0.0.0" "0.0.0.0" "0.0.0.0" "0.0.0.0" "0.0.0.0"]`},
		"behind a trusted proxy": {"trusted_proxies static 127.0.0.1/32\nclient_ip_headers Fly-Client-IP", "Fly-Client-IP", `["0.0.0.0, 127.0.0.1" "0.0.0.0" "0.0.0.0" "127.0.0.1" "0.0.0.0"]`},
		"everybody is trusted":   {"trusted_proxies static 0.0.0.0/0", "X-Forwarded-For", `["0.0.0.0, 127.0.0.1" "0.0.0.0" "0.0.0.0" "127.0.0.1" "0.0.0.0"]`},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, "servers {\n"+c.servers+"\n}", `
	sse /api/* {
		poll 1h
	}
	reverse_proxy `+backend+` {
		header_up X-Peer {remote_host}
		header_up X-Client {client_ip}
	}`)
			for _, protocol := range protocols {
				s.open(protocol, "/api/x", c.told, strangerIP).expect("", c.want)
				s.open(protocol, "/api/x").expect("", c.want)
			}
		})
	}
}

// With the PROXY protocol, the proxy tells the address before the request.
func TestAddressByProxyProtocolIsNotPolledForOthers(t *testing.T) {
	s := startSite(t, "servers {\nlistener_wrappers {\nproxy_protocol {\nallow 127.0.0.1/32\n}\ntls\n}\n}", fmt.Sprintf(insideOnly, "", "vary none"))
	for _, address := range []string{"10.0.0.1", strangerIP} {
		conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", s.http))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 5555 80\r\nGET /internal/x HTTP/1.1\r\nHost: localhost:%d\r\nAccept: text/event-stream\r\n\r\n", address, s.http)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v, %v", address, resp, err)
		}
	}
}

// refuses checks that a request for a stream gets 403, like an ordinary request
// to a path that the backend decides about.
func (s *site) refuses(path string, header ...string) {
	s.t.Helper()
	if strings.HasPrefix(path, "/internal/") {
		if resp := s.do("GET", path, "", header...); resp.StatusCode != http.StatusForbidden {
			s.t.Fatalf("an ordinary request gets %d %q", resp.StatusCode, resp.body)
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	resp, err := s.send(ctx, "HTTP/1.1", "GET", path, "", append([]string{"Accept", "text/event-stream"}, header...)...)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		s.t.Errorf("a request for a stream of %s gets %s", path, resp.Status)
	}
}
