package caddysse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// unclaimedForwarding forwards the deliveries of queues that no rule of the
// configuration has: their rules were removed, renamed or put in another order.
// A delivery goes to the app past whichever webhook rule receives it now. If
// none does, it becomes a dead letter in time.
type unclaimedForwarding struct {
	app        *App
	http       *caddyhttp.App
	forwarders map[*forward.Forwarder]*sharedHub
}

func newUnclaimedForwarding(a *App) *unclaimedForwarding {
	return &unclaimedForwarding{app: a, forwarders: make(map[*forward.Forwarder]*sharedHub)}
}

func (u *unclaimedForwarding) start() {
	for name, shared := range u.app.shared {
		for queue, rule := range shared.forwardQueues() {
			if !u.app.forwards(queue) {
				u.forward(ruleID{name, rule}, shared, queue)
			}
		}
	}
}

func (u *unclaimedForwarding) forward(id ruleID, shared *sharedHub, queue string) {
	history := u.app.Hubs[id.hub].history()
	f := shared.startForwarder(forward.Options{
		Queue: queue, Rule: id.name, Send: u.send, Log: u.app.log, Count: newWebhookMetrics(id, true).forwarded,
		For: min(time.Duration(webhook.DefaultForwardFor), longestRetryPeriod(history.MaxAge)), History: history,
	})
	u.forwarders[f] = shared
}

func (u *unclaimedForwarding) stop() {
	for f, shared := range u.forwarders {
		shared.stopForwarder(f, u.app.log)
	}
}

// send sends a stored request through the server that listens where the request
// came.
func (u *unclaimedForwarding) send(ctx context.Context, stored *forward.Request) (forward.Response, error) {
	server, err := u.serverOf(stored)
	if err != nil {
		return forward.Response{}, err
	}
	return sendStored(ctx, server, stored)
}

func (u *unclaimedForwarding) serverOf(stored *forward.Request) (*caddyhttp.Server, error) {
	_, text, err := net.SplitHostPort(stored.Local)
	if err != nil {
		return nil, fmt.Errorf("the address where the request came is unknown: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the port where the request came is unknown: %w", err)
	}
	if u.http == nil {
		return nil, errors.New("no HTTP server is configured any more")
	}
	for _, server := range u.http.Servers {
		for _, listen := range server.Listen {
			address, err := caddy.ParseNetworkAddress(listen)
			if err == nil && uint(port) >= address.StartPort && uint(port) <= address.EndPort {
				return server, nil
			}
		}
	}
	return nil, fmt.Errorf("no server listens on port %d any more", port)
}

var _ task = (*unclaimedForwarding)(nil)
