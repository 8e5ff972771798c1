package caddysse

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// task is the work that a rule does in the background while the configuration
// is in force.
type task interface {
	// start is called when all apps have started, so that handlers can be
	// called.
	start()
	// stop returns when the work has ended.
	stop()
}

// onStarted calls f when the configuration is in force.
func onStarted(ctx caddy.Context, f func()) error {
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("started", eventHandler(f))
}

// eventHandler adapts a function to [caddyevents.Handler].
type eventHandler func()

// Handle implements [caddyevents.Handler].
func (f eventHandler) Handle(context.Context, caddy.Event) error {
	f()
	return nil
}

func (eventHandler) String() string { return "sse" }
