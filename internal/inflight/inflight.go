// Package inflight lets concurrent callers share one call: the first caller with
// a key starts it, and callers with the same key wait for its result.
package inflight

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Group shares calls among callers with the same key. Its zero value is ready to
// use, and it is safe for concurrent use. The fields must not change while it is
// in use.
type Group[V any] struct {
	// Detached lets a call finish after its last caller has stopped waiting.
	// Default: the group cancels the call's context, and the next caller starts
	// another call.
	Detached bool
	// TTL is how long the group caches a result for later callers, errors
	// included. Zero means that the group caches none.
	TTL time.Duration
	// MaxCalls limits the calls in flight and the cached results together. A
	// caller that would exceed it gets [ErrFull]. Zero means no limit.
	MaxCalls int
	// MaxKept limits the cached results. At the limit, the group caches no
	// further ones.
	MaxKept int

	mu    sync.Mutex
	calls map[string]*call[V] // in flight, or kept
	kept  int
}

// ErrFull is the error of [Group.Do] when the group has [Group.MaxCalls] calls.
var ErrFull = errors.New("too many calls in flight")

// call is one run of a function. Its result may be read when done is closed.
type call[V any] struct {
	done   chan struct{}
	value  V
	err    error
	cancel context.CancelFunc

	waiting  int
	finished bool
}

// Do returns the result of fn, or of the call with the same key that is in
// flight or kept; shared reports the latter. If ctx ends first, Do returns its
// error.
//
// fn runs on a goroutine of its own. Its context carries no values and doesn't
// depend on ctx, since the call may outlive its first caller.
func (g *Group[V]) Do(ctx context.Context, key string, fn func(context.Context) (V, error)) (value V, shared bool, err error) {
	c, shared := g.join(key, fn)
	if c == nil {
		return value, false, ErrFull
	}
	defer g.leave(key, c)
	select {
	case <-c.done:
		return c.value, shared, c.err
	case <-ctx.Done():
		return value, shared, ctx.Err()
	}
}

// Len returns how many calls are in flight or kept.
func (g *Group[V]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.calls)
}

// join returns the key's call, which it starts if there is none. It returns nil
// if the group is full.
func (g *Group[V]) join(key string, fn func(context.Context) (V, error)) (c *call[V], shared bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, shared = g.calls[key]; !shared {
		if g.MaxCalls > 0 && len(g.calls) >= g.MaxCalls {
			return nil, false
		}
		var ctx context.Context
		c = &call[V]{done: make(chan struct{})}
		ctx, c.cancel = context.WithCancel(context.Background())
		if g.calls == nil {
			g.calls = make(map[string]*call[V])
		}
		g.calls[key] = c
		go g.run(ctx, key, c, fn)
	}
	c.waiting++
	return c, shared
}

// leave cancels a call when its last caller stops waiting.
func (g *Group[V]) leave(key string, c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waiting--; c.waiting == 0 && !c.finished && !g.Detached {
		c.cancel()
		g.forgetLocked(key, c)
	}
}

func (g *Group[V]) run(ctx context.Context, key string, c *call[V], fn func(context.Context) (V, error)) {
	defer c.cancel()
	c.value, c.err = fn(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	close(c.done)
	c.finished = true
	if g.calls[key] != c {
		return
	}
	if g.TTL <= 0 || g.kept >= g.MaxKept {
		delete(g.calls, key)
		return
	}
	g.kept++
	time.AfterFunc(g.TTL, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.kept--
		g.forgetLocked(key, c)
	})
}

// forgetLocked removes a call unless a later one has taken its key.
func (g *Group[V]) forgetLocked(key string, c *call[V]) {
	if g.calls[key] == c {
		delete(g.calls, key)
	}
}
