package redis_test

import (
	"fmt"
	"testing"

	client "github.com/redis/go-redis/v9"

	"github.com/caddy-sse/caddy-sse/hub/hubtest"
	"github.com/caddy-sse/caddy-sse/internal/testserver"
	"github.com/caddy-sse/caddy-sse/store/redis"
	"github.com/caddy-sse/caddy-sse/store/shared"
	"github.com/caddy-sse/caddy-sse/store/shared/enginetest"
)

func open(server *testserver.Server, prefix string) *redis.Engine {
	return redis.Open(redis.Options{Client: client.UniversalOptions{Addrs: []string{server.Address}}, Prefix: prefix})
}

func TestStreamIsAnEngine(t *testing.T) {
	server := testserver.Redis(t)
	n := 0
	enginetest.Run(t, func(t *testing.T) func() shared.Engine {
		n++
		prefix := fmt.Sprint("test", n)
		return func() shared.Engine {
			e := open(server, prefix)
			t.Cleanup(func() { _ = e.Close() })
			return e
		}
	})
}

func TestHubsShareStreamAndSurviveCrashOfServer(t *testing.T) {
	server := testserver.Redis(t)
	hubtest.Shared(t, func() shared.Engine { return open(server, "test") }, func() {
		server.Kill()
		server.Start()
	})
}
