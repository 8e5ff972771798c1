package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// server is a program that fanout measures.
type server struct {
	name    string
	note    string // how it is configured
	tls     bool   // it has HTTP/2 and HTTP/3
	missing string // why it can't run, and how to install it
	start   func(ctx context.Context) (*serving, error)
}

// serving is a started server.
type serving struct {
	pid         int // of its first process
	http, https string
	target      string // path and query of the streams
	publish     func(data string) publishRequest
	stop        func() error
}

// fanoutServers returns all servers, also those that are missing.
func fanoutServers(o *fanoutOptions) []*server {
	all := []*server{
		{name: "floor", note: "a thread per core that only writes", start: startFloor},
		{name: "caddy-sse", note: "`topic` and `publish`, the default `history`", tls: true, start: startUs},
		{name: "naive", note: "a Caddy handler with a goroutine and a channel per stream, and without a history", tls: true, start: startNaive},
	}
	for _, other := range o.builds() {
		all = append(all, &server{name: other.name, note: "another build", tls: true, start: func(ctx context.Context) (*serving, error) {
			return startSubject(ctx, other.path, ourRule)
		}})
	}
	return append(all, peers()...)
}

const ourRule = "sse /events {\n topic bench\n }" + publishing

func startUs(ctx context.Context) (*serving, error) { return startSubject(ctx, "", ourRule) }

// startSubject starts a build of this program, or this program itself, with a rule
// of the module.
func startSubject(_ context.Context, path, rule string) (*serving, error) {
	caddy, err := startBuild(path, rule)
	if err != nil {
		return nil, err
	}
	s := caddy.serving("/events")
	s.publish = func(data string) publishRequest {
		return newPublishRequest(s.http, "/publish", formWithMark("topic=bench&data=", data),
			"Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer bench")
	}
	return s, nil
}

func startNaive(context.Context) (*serving, error) {
	caddy, err := startBuild("", "route /events {\n naive\n }")
	if err != nil {
		return nil, err
	}
	s := caddy.serving("/events")
	s.publish = func(data string) publishRequest { return newPublishRequest(s.http, "/events", data) }
	return s, nil
}

// startBuild starts Caddy from another build of this program. An empty path is this
// program. No backend is needed.
func startBuild(path, rule string) (*caddyProcess, error) {
	c := &caddyProcess{path: path}
	return c, c.startSite("", "", rule, "127.0.0.1:9")
}

func (c *caddyProcess) serving(target string) *serving {
	address := func(base string) string { _, rest, _ := strings.Cut(base, "://"); return rest }
	return &serving{pid: c.cmd.Process.Pid, http: address(c.url), https: address(c.tls), target: target, stop: c.stop}
}

// formWithMark adds data as a form's value. The mark stays as it is.
func formWithMark(form, data string) string {
	return form + strings.Replace(url.QueryEscape(data), "%40", "@", 1)
}

func startFloor(ctx context.Context) (*serving, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s, err := startProgram(ctx, address, "", "/proc/self/exe", floorWord, address)
	if err != nil {
		return nil, err
	}
	s.target = "/"
	s.publish = func(data string) publishRequest { return newPublishRequest(address, "/", data) }
	return s, nil
}

func freeAddress() (string, error) {
	port, err := freePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// startProgram starts a program and waits until it accepts connections. The program
// ends when its standard input ends, at SIGTERM, or when this process ends. Its
// folder is removed when it has ended.
func startProgram(ctx context.Context, address, folder, program string, arguments ...string) (*serving, error) {
	cmd := exec.Command(program, arguments...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop := func() error {
		in.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		return os.RemoveAll(folder)
	}
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return &serving{pid: cmd.Process.Pid, http: address, stop: stop}, conn.Close()
		}
		select {
		case <-ended:
			return nil, errors.Join(fmt.Errorf("%s has ended: %s", program, output.String()), stop())
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), stop())
		}
	}
}

// findProgram returns the path of a program, also in Debian's folder for daemons.
func findProgram(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, _ := exec.LookPath("/usr/sbin/" + name)
	return path
}

// runJob runs clients in a process of their own.
func runJob(ctx context.Context, job []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", clientsWord, string(job))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, failure.String())
	}
	return out, nil
}
