package nats_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-sse/caddy-sse/hub/hubtest"
	"github.com/caddy-sse/caddy-sse/internal/testserver"
	"github.com/caddy-sse/caddy-sse/store/nats"
	"github.com/caddy-sse/caddy-sse/store/shared"
	"github.com/caddy-sse/caddy-sse/store/shared/enginetest"
)

func open(t *testing.T, server *testserver.Server, stream string) *nats.Engine {
	t.Helper()
	e, err := nats.Open(nats.Options{Servers: []string{"nats://" + server.Address}, Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestStreamIsAnEngine(t *testing.T) {
	server := testserver.NATS(t)
	n := 0
	enginetest.Run(t, func(t *testing.T) func() shared.Engine {
		n++
		stream := fmt.Sprint("TEST", n)
		return func() shared.Engine {
			e := open(t, server, stream)
			t.Cleanup(func() { _ = e.Close() })
			return e
		}
	})
}

// With CADDY_SSE_FULL the leader of a cluster of three crashes, too.
func TestHubsShareStreamAndSurviveCrashOfServer(t *testing.T) {
	server := testserver.NATS(t)
	hubtest.Shared(t, func() shared.Engine { return open(t, server, "TEST") }, func() {
		server.Kill()
		server.Start()
	})
	if os.Getenv("CADDY_SSE_FULL") != "" {
		t.Run("leader of a cluster", testCrashOfLeader)
	}
}

func testCrashOfLeader(t *testing.T) {
	servers := testserver.NATSCluster(t)
	var urls []string
	for _, s := range servers {
		urls = append(urls, "nats://"+s.Address)
	}
	connect := func() shared.Engine {
		e, err := nats.Open(nats.Options{Servers: urls, Stream: "TEST"})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	hubtest.Shared(t, connect, func() { servers[leader(t, urls)].Kill() })
}

// leader returns the index of the server that leads the stream.
func leader(t *testing.T, urls []string) int {
	t.Helper()
	conn, err := client.Connect(strings.Join(urls, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "TEST")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().Config.Replicas; n != 3 {
		t.Errorf("the stream has %d replicas, want 3", n)
	}
	i, err := strconv.Atoi(strings.TrimPrefix(s.CachedInfo().Cluster.Leader, "n"))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestStreamOfAnotherProgramIsRefused(t *testing.T) {
	server := testserver.NATS(t)
	conn, err := client.Connect("nats://" + server.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"x"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, server, "OTHER")
	defer func() { _ = e.Close() }()
	if _, err := e.Head(context.Background()); err == nil || !strings.Contains(err.Error(), "not one of caddy-sse's") {
		t.Errorf("the head is there: %v", err)
	}
}
