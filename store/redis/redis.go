// Package redis keeps a hub's log in a stream of Redis or Valkey.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-sse/caddy-sse/store/shared"
)

// Options configure an engine.
type Options struct {
	// Client are the options of the connections: addresses, sentinels, TLS,
	// credentials. The engine sets the timeouts that it needs.
	Client redis.UniversalOptions
	// Prefix begins the names of the two keys, {Prefix}:log and {Prefix}:head.
	Prefix string
	// Replicas is how many replicas must have a message before it counts as
	// appended. Zero means none.
	Replicas int
}

// Engine is a [shared.Engine] whose log is a stream. It connects when it must.
type Engine struct {
	client    redis.UniversalClient
	log, head string
	replicas  int
}

var _ shared.Engine = (*Engine)(nil)

// blocking is how long one read waits for messages, and so how long Read may take
// to notice that its context has ended.
const blocking = time.Second

// waitFor is how long an append waits for replicas.
const waitFor = 2 * time.Second

// Open returns an engine. It connects to no server.
func Open(o Options) *Engine {
	o.Client.ContextTimeoutEnabled = true
	o.Client.MaxRetries = -1 // the log repeats what fails
	return &Engine{
		client:   redis.NewUniversalClient(&o.Client),
		log:      "{" + o.Prefix + "}:log", // the braces put both on one node of a cluster
		head:     "{" + o.Prefix + "}:head",
		replicas: o.Replicas,
	}
}

// add appends a message under the next number. It runs as a whole, and replicas get
// all of it or nothing.
var add = redis.NewScript(`
local n = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], string.format('%d-0', n), 'm', ARGV[1])
return n`)

// Append implements [shared.Engine].
func (e *Engine) Append(ctx context.Context, message []byte) error {
	if e.replicas == 0 {
		return add.Run(ctx, e.client, []string{e.log, e.head}, message).Err()
	}
	var wait *redis.Cmd
	_, err := e.client.Pipelined(ctx, func(p redis.Pipeliner) error { // on one connection
		add.Eval(ctx, p, []string{e.log, e.head}, message)
		wait = p.Do(ctx, "WAIT", e.replicas, waitFor.Milliseconds())
		return nil
	})
	if err != nil {
		return err
	}
	if n, err := wait.Int(); err != nil || n < e.replicas {
		return fmt.Errorf("%d replicas have the events, want %d", n, e.replicas)
	}
	return nil
}

// Head implements [shared.Engine].
func (e *Engine) Head(ctx context.Context) (uint64, error) {
	n, err := e.client.Get(ctx, e.head).Uint64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return n, err
}

// Drop implements [shared.Engine].
func (e *Engine) Drop(ctx context.Context, upTo uint64) error {
	return e.client.XTrimMinID(ctx, e.log, id(upTo+1)).Err()
}

func id(seq uint64) string { return strconv.FormatUint(seq, 10) + "-0" }

// Read implements [shared.Engine].
func (e *Engine) Read(ctx context.Context, after uint64, f func(uint64, []byte) error) error {
	for ctx.Err() == nil {
		streams, err := e.client.XRead(ctx, &redis.XReadArgs{Streams: []string{e.log, id(after)}, Count: 256, Block: blocking}).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range streams[0].Messages {
			number, _, _ := strings.Cut(m.ID, "-")
			text, ok := m.Values["m"].(string)
			if after, err = strconv.ParseUint(number, 10, 64); err != nil || !ok {
				return fmt.Errorf("the stream %s is not one of caddy-sse's", e.log)
			}
			if err := f(after, []byte(text)); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// MaxMessage implements [shared.Engine].
func (e *Engine) MaxMessage() int { return 1 << 20 }

// Close implements [shared.Engine].
func (e *Engine) Close() error { return e.client.Close() }
