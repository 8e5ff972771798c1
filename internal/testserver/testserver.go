// Package testserver starts the servers that tests need, on the loopback interface.
package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Server is a server that runs until the test ends.
type Server struct {
	Address string // host:port

	t       testing.TB
	program string
	args    []string
	log     *os.File
	process *exec.Cmd
}

// NATS starts a NATS server with JetStream. The test is skipped if there is no
// nats-server; in CI it fails.
func NATS(t testing.TB) *Server {
	t.Helper()
	return start(t, "nats-server", func(host, port string) []string {
		return []string{"-a", host, "-p", port, "-js", "-sd", t.TempDir()}
	})
}

// NATSCluster starts three NATS servers that are a cluster.
func NATSCluster(t testing.TB) [3]*Server {
	t.Helper()
	var servers [3]*Server
	var routes []string
	for range servers {
		routes = append(routes, "nats://"+freeAddress(t))
	}
	for i := range servers {
		servers[i] = start(t, "nats-server", func(host, port string) []string {
			return []string{
				"-a", host, "-p", port, "-js", "-sd", t.TempDir(), "-n", fmt.Sprint("n", i),
				"-cluster", routes[i], "-cluster_name", "test", "-routes", strings.Join(routes, ","),
			}
		})
	}
	return servers
}

// Redis starts a Redis server. The test is skipped if there is no redis-server; in CI
// it fails.
func Redis(t testing.TB) *Server {
	t.Helper()
	return start(t, "redis-server", func(host, port string) []string {
		return []string{"--bind", host, "--port", port, "--save", "", "--appendonly", "yes", "--dir", t.TempDir()}
	})
}

func start(t testing.TB, program string, args func(host, port string) []string) *Server {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: ./xcaddy.sh test installs it", program)
		}
		t.Skipf("%s is missing: ./xcaddy.sh test installs it", program)
	}
	s := &Server{t: t, program: program, Address: freeAddress(t)}
	var err error
	host, port, _ := net.SplitHostPort(s.Address)
	s.args = args(host, port)
	if s.log, err = os.Create(filepath.Join(t.TempDir(), program+".log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		_ = s.log.Close()
	})
	s.Start()
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Start starts the server, and waits until it listens. [Server.Kill] must have ended
// it before.
func (s *Server) Start() {
	s.t.Helper()
	s.process = exec.Command(s.program, s.args...)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 200 {
		if c, err := net.Dial("tcp", s.Address); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(s.log.Name())
	s.t.Fatalf("%s doesn't listen on %s:\n%s", s.program, s.Address, log)
}

// Kill ends the server at once, as a crash does. It keeps its files.
func (s *Server) Kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}
