package shared

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store"
)

// Options configure a log.
type Options struct {
	// Timeout is how long Attach and Publish wait for the engine.
	// Default: 10s.
	Timeout time.Duration
	// Log gets a line when the log can't be reached, and when it can again.
	Log *zap.Logger
}

// ErrUnavailable means that the engine can't be reached, or doesn't answer.
var ErrUnavailable = errors.New("the log's engine is unavailable")

// Log is a [store.Shared] that an [Engine] keeps.
type Log struct {
	engine  Engine
	timeout time.Duration
	log     *zap.Logger
	node    nodeID

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	appending chan struct{} // holds a value while this node appends a block
	blocks    uint64        // this node's, so far; guarded by mu

	asking  chan struct{} // holds a value while headNow asks; guards the two below
	askedAt time.Time
	head    uint64

	// mirror is the copy of the log that readers read. Before the log could be
	// reached it is empty, with an epoch that no other log has.
	mirror atomic.Pointer[store.Memory]
	ready  chan struct{} // closed when the mirror is a copy of the log

	mu      sync.Mutex // held while a message is applied
	state   *state     // nil before the log could be reached
	hooks   store.Hooks
	history store.History
	waiting *waiting
	changed chan struct{} // closed and replaced when state has changed
	down    error         // why the newest append or read failed; nil if both work

	answered time.Time // when the engine's newest answer came
	stopRead context.CancelFunc
	forgot   bool // the engine has lost messages that this node has applied
	reload   bool // the engine has dropped messages that this node has not read
}

// waiting is a block of this node that isn't decided yet.
type waiting struct {
	block   uint64
	done    chan struct{}
	decided []*store.Proposal // nil if the block had no effect
	unknown bool              // the log has decided it, and this node doesn't know how
}

// Open returns the log that an engine keeps. Until the engine can be reached the log
// is empty, with an epoch of its own, and refuses proposals.
func Open(e Engine, o Options) *Log {
	l := &Log{
		engine:  e,
		timeout: cmp.Or(o.Timeout, 10*time.Second),
		log:     o.Log,
		ready:   make(chan struct{}),

		appending: make(chan struct{}, 1),
		asking:    make(chan struct{}, 1),
		changed:   make(chan struct{}),
	}
	if l.log == nil {
		l.log = zap.NewNop()
	}
	_, _ = rand.Read(l.node[:]) // never fails
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.mirror.Store(store.NewMemory())
	return l
}

// Attach implements [store.Shared]. It waits for at most Options.Timeout.
func (l *Log) Attach(h store.Hooks) {
	l.hooks = h
	l.running.Go(l.follow)
	l.running.Go(l.maintain)
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	select {
	case <-l.ready:
	case <-l.ctx.Done():
	case <-timer.C:
		l.setDown(errors.New("it doesn't answer"))
	}
}

// reason returns why the log can't be reached.
func (l *Log) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, l.down)
	}
	return ErrUnavailable
}

// Close implements [store.Store].
func (l *Log) Close() error {
	l.cancel()
	l.running.Wait()
	return l.engine.Close()
}

// Publish implements [store.Shared].
func (l *Log) Publish(propose func() []*store.Proposal) error {
	if l.isDown() {
		return l.reason()
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	for {
		var items []*store.Proposal
		decided, err := l.append(ctx, func(s *state) []byte {
			p := proposals{epoch: s.epoch, at: time.Now()}
			p.base, p.chain = s.base()
			items = propose()
			items = items[:batchSize(items)]
			if p.items = items; len(items) == 0 {
				return nil
			}
			return p.encode()
		})
		if err != nil || len(items) == 0 {
			return err
		}
		for i, d := range decided { // none if the block came too late: the log has gone on since
			d.Record, d.Decided = items[i].Record, true
			*items[i] = *d
		}
	}
}

// The bounds of a block of several proposals.
const (
	maxBlockItems = 1 << 10
	maxBlockBytes = 512 << 10
)

// batchSize returns how many of the proposals the next block holds: at least one if
// there is any.
func batchSize(items []*store.Proposal) int {
	events, size := 0, 0
	for n, p := range items {
		events += 1 + len(p.Events)
		for _, e := range p.Events {
			size += len(e.Frame)
		}
		if n > 0 && (events > maxBlockItems || size > maxBlockBytes) {
			return n
		}
	}
	return len(items)
}

// append appends a block, and returns when this node has applied it. It repeats the
// block if the engine doesn't answer; the log counts it once. encode is called with
// the state, which doesn't change meanwhile; if it returns nil, nothing is appended.
func (l *Log) append(ctx context.Context, encode func(*state) []byte) ([]*store.Proposal, error) {
	select {
	case l.appending <- struct{}{}:
	case <-ctx.Done():
		return nil, l.reason()
	}
	defer func() { <-l.appending }()
	l.mu.Lock()
	if l.state == nil {
		l.mu.Unlock()
		return nil, l.reason()
	}
	block := encode(l.state)
	if block == nil {
		l.mu.Unlock()
		return nil, nil
	}
	l.blocks++
	w := &waiting{block: l.blocks, done: make(chan struct{})}
	l.waiting = w
	l.mu.Unlock()
	messages := encodeMessages(l.node, w.block, block, l.engine.MaxMessage())
	for {
		err := l.send(ctx, messages)
		if err == nil {
			select {
			case <-w.done:
				l.setDown(nil)
				return w.result()
			case <-ctx.Done():
				err = errors.New("it has not returned what was appended")
			}
		}
		if ctx.Err() != nil {
			l.setDown(err)
			return nil, l.reason()
		}
		select {
		case <-w.done: // an earlier attempt has reached it
			return w.result()
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *waiting) result() ([]*store.Proposal, error) {
	if w.unknown {
		return nil, fmt.Errorf("%w: it may hold the events or not", ErrUnavailable)
	}
	return w.decided, nil
}

func (l *Log) send(ctx context.Context, messages [][]byte) error {
	for _, m := range messages {
		if err := l.engine.Append(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// isDown reports whether a proposal would fail: an earlier one has, and the log has
// not answered since.
func (l *Log) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down != nil
}

// setDown records why the engine doesn't work, or that it does.
func (l *Log) setDown(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && l.down == nil && l.ctx.Err() == nil:
		l.log.Error("the hub's log can't be reached; publishing fails until it can", zap.Error(err))
	case err == nil && l.down != nil:
		l.log.Info("the hub's log can be reached again")
	}
	l.down = err
}

// Sync implements [store.Shared].
func (l *Log) Sync(ctx context.Context) error {
	if l.isDown() {
		return l.reason()
	}
	head, err := l.headNow(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for {
		l.mu.Lock()
		reached, changed := l.state != nil && l.state.applied >= head, l.changed
		l.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// headNow returns the engine's newest message. One call at a time asks the engine,
// and callers that have waited meanwhile share the next answer.
func (l *Log) headNow(ctx context.Context) (uint64, error) {
	called := time.Now()
	select {
	case l.asking <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-l.asking }()
	if l.askedAt.After(called) {
		return l.head, nil
	}
	asked := time.Now()
	head, err := l.engine.Head(ctx)
	if err == nil {
		l.askedAt, l.head = asked, head
	}
	return head, err
}

// Append implements [store.Store]: it fails.
func (l *Log) Append([]*store.Entry, []store.IdempotencyRecord) error { return errors.ErrUnsupported }

// Trim implements [store.Store].
func (l *Log) Trim(h store.History, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = h
	return l.mirror.Load().Trim(h, now)
}

// epochName returns a new epoch's name.
func epochName() string { return strings.ToLower(rand.Text()[:10]) }
