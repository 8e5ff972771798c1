package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/selfsigned"
)

// caddyProcess is a Caddy with one site, over HTTP and HTTPS.
type caddyProcess struct {
	path   string // of the program; empty: this program
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr bytes.Buffer
	dir    string // for its data
	url    string // cleartext
	tls    string // the same site, over TLS and QUIC
	admin  string // its admin API
	atRest memory // before the first client
}

const caddyfile = `{
	admin 127.0.0.1:%[6]d
	persist_config off
	auto_https off
	storage file_system %[1]s
	log {
		output discard
	}
	servers {
		protocols h1 h2 h2c h3
		%[8]s
	}
	%[5]s
}
(site) {
	bind 127.0.0.1
	%[3]s
	reverse_proxy %[4]s
}
http://127.0.0.1:%[2]d {
	import site
}
https://localhost:%[7]d {
	tls %[1]s/cert.pem %[1]s/key.pem
	import site
}
`

// folderPlaceholder is replaced in options by the process's folder.
const folderPlaceholder = "{folder}"

// startCaddy starts Caddy with a rule in front of a backend and further global
// options, and waits until it serves.
func startCaddy(global, rule, backend string) (*caddyProcess, error) {
	return startCaddyWith("", global, rule, backend)
}

// startCaddyWith also takes options of the servers.
func startCaddyWith(servers, global, rule, backend string) (*caddyProcess, error) {
	c := new(caddyProcess)
	return c, c.startSite(servers, global, rule, backend)
}

func (c *caddyProcess) startSite(servers, global, rule, backend string) error {
	var ports [3]int
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	c.url = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	c.tls = fmt.Sprintf("https://localhost:%d", ports[1])
	c.admin = fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	return c.launch(func(dir string) string {
		return fmt.Sprintf(caddyfile, dir, ports[0], rule, backend, strings.ReplaceAll(global, folderPlaceholder, dir), ports[2], ports[1], servers)
	})
}

// launch starts Caddy with the Caddyfile that config returns for its directory, and
// waits until it serves. The directory has a certificate and its key.
func (c *caddyProcess) launch(config func(dir string) string) (err error) {
	if c.path == "" {
		if c.path, err = os.Executable(); err != nil {
			return err
		}
	}
	if c.dir, err = os.MkdirTemp("", "caddy-sse-bench"); err != nil {
		return err
	}
	if err := selfsigned.Write(c.dir); err != nil {
		return errors.Join(err, os.RemoveAll(c.dir))
	}
	c.cmd = exec.Command(c.path, childWord, config(c.dir))
	c.cmd.Stderr = &c.stderr
	if err := c.start(); err != nil {
		return errors.Join(err, c.stop(), errors.New(c.stderr.String()))
	}
	return nil
}

func (c *caddyProcess) start() (err error) {
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.out = json.NewDecoder(out)
	return c.out.Decode(&c.atRest)
}

func (c *caddyProcess) command(line string) (m memory, err error) {
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		return m, err
	}
	return m, c.out.Decode(&m)
}

// profile writes a CPU profile until the caller calls the returned function. An
// empty path writes none.
func (c *caddyProcess) profile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	if _, err := c.command("profile " + path); err != nil {
		return nil, err
	}
	return func() error { _, err := c.command("profiled"); return err }, nil
}

// usage returns the process's usage so far.
func (c *caddyProcess) usage() (usage, error) { return processUsage(c.cmd.Process.Pid) }

// stop ends the process and waits for it. The process may have ended before.
func (c *caddyProcess) stop() error {
	defer os.RemoveAll(c.dir)
	if c.cmd.Process == nil {
		return nil
	}
	c.in.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })()
	return c.cmd.Wait()
}

// freePort returns a port that is free for TCP and UDP.
func freePort() (int, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err == nil {
			return port, u.Close()
		}
	}
}
