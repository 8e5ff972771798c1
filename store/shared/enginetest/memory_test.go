package enginetest_test

import (
	"testing"

	"github.com/caddy-sse/caddy-sse/store/shared"
	"github.com/caddy-sse/caddy-sse/store/shared/enginetest"
)

func TestMemoryIsAnEngine(t *testing.T) {
	enginetest.Run(t, func(*testing.T) func() shared.Engine {
		return enginetest.NewMemory().Connect
	})
}
