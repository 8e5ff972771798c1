package caddysse_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	_ "github.com/caddy-sse/caddy-sse"
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/internal/selfsigned"
)

// site is a real Caddy in this process, with one site over HTTP and HTTPS.
type site struct {
	t           testing.TB
	http, https int
	admin       string    // address of the admin API
	clients     *sync.Map // of *http.Client by protocol
}

// protocols are the protocols over which tests check what clients see.
var protocols = []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0"}

// startSite loads a configuration whose site has the given directives, and
// unloads it when the test ends.
func startSite(t testing.TB, global, directives string) *site {
	t.Helper()
	return startSiteWithAdmin(t, "off", global, directives)
}

func startSiteWithAdmin(t testing.TB, admin, global, directives string) *site {
	t.Helper()
	s := &site{t: t, http: freePort(t), https: freePort(t), admin: admin}
	s = s.withClients()
	s.reload(global, directives)
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return s
}

// withClients returns the same site for clients with connections of their own:
// one HTTP/3 connection has at most a hundred streams.
func (s *site) withClients() *site {
	other := *s
	other.clients = new(sync.Map)
	other.renewClients()
	return &other
}

// renewClients gives the requests that follow new connections. Streams stay on
// those that they have.
func (s *site) renewClients() {
	for protocol, client := range map[string]*http.Client{
		"HTTP/1.1": s.tcpClient(false),
		"HTTP/2.0": s.tcpClient(true),
		"HTTP/3.0": s.quicClient(),
	} {
		before, ok := s.clients.Swap(protocol, client)
		if ok && protocol != "HTTP/3.0" { // whose transport takes a connection with open streams for idle
			before.(*http.Client).CloseIdleConnections()
		}
	}
}

func (s *site) client(protocol string) *http.Client {
	client, _ := s.clients.Load(protocol)
	return client.(*http.Client)
}

// reload replaces the configuration in force.
func (s *site) reload(global, directives string) {
	s.t.Helper()
	if err := s.load(global, directives); err != nil {
		s.t.Fatalf("loading: %v", err)
	}
}

func (s *site) load(global, directives string) error {
	s.t.Helper()
	if err := loadCaddyfile(s.caddyfile(global, directives)); err != nil {
		return err
	}
	// The old server answers requests on its connections until the clients have
	// read its GOAWAY.
	s.renewClients()
	return nil
}

func (s *site) caddyfile(global, directives string) string {
	return fmt.Sprintf(`{
	admin %[6]s
	persist_config off
	auto_https off
	storage file_system %[1]s
	http_port %[2]d
	https_port %[3]d
	log {
		output discard
	}
	%[4]s
}
(site) {
	bind 127.0.0.1
	%[5]s
}
http://localhost:%[2]d {
	import site
}
https://localhost:%[3]d {
	tls %[1]s/cert.pem %[1]s/key.pem
	import site
}
`, files, s.http, s.https, global, directives, s.admin)
}

func loadCaddyfile(caddyfile string) error {
	config, err := adapt(caddyfile)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// adapt fails on warnings, apart from the one about formatting.
func adapt(caddyfile string) ([]byte, error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	config, warnings, err := adapter.Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			err = errors.Join(err, errors.New(w.String()))
		}
	}
	return config, err
}

// givenPorts holds the ports that freePort has returned.
var givenPorts sync.Map

// freePort returns a port that is free for TCP and for UDP, of which thousands of
// clients may use many. It never returns a port twice: the system may, once the
// first listener is closed, and a site needs different ports.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if u, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			u.Close()
			port := l.Addr().(*net.TCPAddr).Port
			if _, given := givenPorts.LoadOrStore(port, true); !given {
				return port
			}
		}
	}
	t.Fatal("there is no port that is free for TCP and UDP")
	return 0
}

// localhost replaces the host of an address by the site's.
func localhost(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort("127.0.0.1", port)
}

// files is the directory of the site's certificate and of Caddy's storage.
var files string

func TestMain(m *testing.M) {
	if config := os.Getenv(crashConfig); config != "" {
		os.Exit(runUntilKilled(config))
	}
	os.Exit(func() int {
		var err error
		if files, err = os.MkdirTemp("", "caddy-sse-test"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(files)
		if err := selfsigned.Write(files); err != nil {
			panic(err)
		}
		code := m.Run()
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh")); err != nil && code == 0 {
			fmt.Println(err)
			return 1
		}
		return code
	}())
}

var insecure = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test's own certificate

func (s *site) tcpClient(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:    insecure.Clone(),
		Protocols:          protocols,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, localhost(addr))
			if err == nil { // otherwise Caddy's end would wait for this one
				s.t.Cleanup(func() { conn.Close() })
			}
			return conn, err
		},
	}}
}

func (s *site) quicClient() *http.Client {
	transport := &http3.Transport{
		TLSClientConfig:    insecure.Clone(),
		DisableCompression: true,
		// The transport forgets connections that the server has asked it to leave.
		Dial: func(ctx context.Context, addr string, config *tls.Config, options *quic.Config) (*quic.Conn, error) {
			conn, err := quic.DialAddrEarly(ctx, localhost(addr), config, options)
			if err == nil {
				s.t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
			}
			return conn, err
		},
	}
	s.t.Cleanup(func() { transport.Close() })
	return &http.Client{Transport: transport}
}

// url returns the URL of a path: plain HTTP for HTTP/1.1.
func (s *site) url(protocol, path string) string {
	if protocol == "HTTP/1.1" {
		return fmt.Sprintf("http://localhost:%d%s", s.http, path)
	}
	return fmt.Sprintf("https://localhost:%d%s", s.https, path)
}

// response is a response with its whole body.
type response struct {
	*http.Response
	body string
}

// do sends a request over HTTP/1.1 and reads the whole response. Header
// arguments alternate between name and value.
func (s *site) do(method, path, body string, header ...string) response {
	s.t.Helper()
	return s.doOver("HTTP/1.1", method, path, body, header...)
}

func (s *site) doOver(protocol, method, path, body string, header ...string) response {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	resp, err := s.send(ctx, protocol, method, path, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return response{resp, string(content)}
}

func (s *site) send(ctx context.Context, protocol, method, path, body string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url(protocol, path), bytes.NewBufferString(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	// Not sent: it lets net/http repeat a POST on a new connection if the server
	// has closed the idle one without a response, as the old server does after a
	// reload.
	req.Header["Idempotency-Key"] = nil
	resp, err := s.client(protocol).Do(req)
	// The server of a configuration that was replaced or rejected may have
	// accepted the connection, or have it in its backlog, and closes it unread:
	// net/http repeats nothing on a new connection.
	for tries := 0; (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && tries < 3; tries++ {
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		resp, err = s.client(protocol).Do(req)
	}
	return resp, err
}

// client is an open stream and a goroutine that reads it.
type client struct {
	t      testing.TB
	resp   *http.Response
	events chan event.Event
	cancel context.CancelFunc
	err    error // why the stream ended, once events is closed
}

// open opens a stream and fails the test if the response is none.
func (s *site) open(protocol, path string, header ...string) *client {
	s.t.Helper()
	c, err := s.tryOpen(protocol, path, header...)
	if err != nil {
		s.t.Fatalf("opening %s: %v", path, err)
	}
	return c
}

// post opens a stream with a POST.
func (s *site) post(protocol, path, query string, header ...string) *client {
	s.t.Helper()
	c, err := s.tryOpenBy(http.MethodPost, query, protocol, path, append([]string{"Content-Type", "application/json"}, header...)...)
	if err != nil {
		s.t.Fatalf("opening %s: %v", path, err)
	}
	return c
}

func (s *site) tryOpen(protocol, path string, header ...string) (*client, error) {
	return s.tryOpenBy(http.MethodGet, "", protocol, path, header...)
}

func (s *site) tryOpenBy(method, body, protocol, path string, header ...string) (*client, error) {
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := s.send(ctx, protocol, method, path, body, append([]string{"Accept", "text/event-stream"}, header...)...)
	if err != nil {
		cancel()
		return nil, err
	}
	c := &client{t: s.t, resp: resp, events: make(chan event.Event, 16), cancel: cancel}
	if resp.StatusCode != http.StatusOK || resp.Proto != protocol {
		c.close()
		return nil, fmt.Errorf("answered with %s %s", resp.Proto, resp.Status)
	}
	s.t.Cleanup(c.close)
	go c.read(ctx)
	return c, nil
}

func (c *client) read(ctx context.Context) {
	defer close(c.events)
	decoder := eventtest.NewDecoder(c.resp.Body, 0)
	for {
		e, err := decoder.Next()
		if err != nil {
			c.err = err
			return
		}
		select {
		case c.events <- e:
		case <-ctx.Done():
			c.err = ctx.Err()
			return
		}
	}
}

func (c *client) close() {
	c.cancel()
	c.resp.Body.Close()
}

// next returns the next event.
func (c *client) next() event.Event {
	c.t.Helper()
	select {
	case e, ok := <-c.events:
		if !ok {
			c.t.Fatalf("the stream ended: %v", c.err)
		}
		return e
	case <-time.After(20 * time.Second):
		c.t.Fatal("no event within 20 s")
		panic("unreachable")
	}
}

// expect returns the next event, which must have this name and data.
func (c *client) expect(name, data string) event.Event {
	c.t.Helper()
	e := c.next()
	if e.Name != name || string(e.Data) != data {
		c.t.Fatalf("got event %q with data %q, want %q with %q", e.Name, e.Data, name, data)
	}
	return e
}

// ended waits until the server has ended the stream, and fails on events.
func (c *client) ended() {
	c.t.Helper()
	select {
	case e, ok := <-c.events:
		if ok {
			c.t.Fatalf("got event %q with data %q, want the stream's end", e.Name, e.Data)
		}
	case <-time.After(20 * time.Second):
		c.t.Fatal("the stream has not ended within 20 s")
	}
}

// startBackend starts an application without streams.
func startBackend(t testing.TB, handler http.HandlerFunc) (address string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
