package shared

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// follow applies the log's messages until the log is closed. After a failure it
// reads on.
func (l *Log) follow() {
	pause := 50 * time.Millisecond
	for l.ctx.Err() == nil {
		began := time.Now()
		err := l.read()
		if l.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errReload) {
			continue
		}
		if time.Since(began) > time.Second {
			pause = 50 * time.Millisecond
		}
		if began.Sub(l.connectedAt()) > l.timeout {
			l.setDown(err)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		case <-l.ctx.Done():
		}
	}
}

// connectedAt returns when the newest message was applied or the engine answered.
func (l *Log) connectedAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered
}

// errReload means that the log must be read from its beginning.
var errReload = errors.New("the log has changed")

// reading is one call of Engine.Read.
type reading struct {
	*Log
	first bool
	// state is the state that is built: the log's own, or while the log is read
	// from its beginning, one that replaces it.
	state *state
	// target is the message up to which a log that is read from its beginning
	// must be read before it replaces the old state.
	target uint64
	// until a beginning is found:
	unread []unread
	scan   assembler
	// forgot means that the engine has lost messages that this node has applied.
	forgot bool
	// proposed means that this node has proposed an epoch.
	proposed bool
}

// unread is a message before the log's beginning is known.
type unread struct {
	seq  uint64
	data []byte
}

// read reads the log until the connection breaks. It begins with the newest message
// that it has applied: if the engine has another one there, it has lost messages.
func (l *Log) read() error {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	head, err := l.engine.Head(ctx)
	cancel()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.answered = time.Now()
	r := &reading{Log: l, first: true, state: l.state, target: head, forgot: l.forgot}
	l.mu.Unlock()
	var after uint64
	switch {
	case r.state == nil || r.forgot || l.reload:
		r.restart()
	case head < r.state.applied:
		r.forget()
	case r.state.applied > 0:
		after = r.state.applied - 1
	}
	if err := r.finish(); err != nil {
		return err
	}
	reading, stop := context.WithCancel(l.ctx)
	defer stop()
	l.mu.Lock()
	l.stopRead = stop
	l.mu.Unlock()
	return l.engine.Read(reading, after, r.receive)
}

// restart begins a new state.
func (r *reading) restart() {
	r.state = newState(r.hooksOutcome)
	r.scan = make(assembler)
}

func (l *Log) hooksOutcome(first uint64, entries []*store.Entry) string {
	if l.hooks.Outcome == nil {
		return ""
	}
	return l.hooks.Outcome(first, entries)
}

// forget begins a new state because the engine has lost messages.
func (r *reading) forget() {
	r.log.Error("the hub's log has lost events that clients may have seen: a new epoch begins, and clients are reset")
	r.Log.forgot, r.forgot = true, true
	r.restart()
}

// receive is called with each message.
func (r *reading) receive(seq uint64, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered = time.Now()
	first := r.first
	r.first = false
	if live := r.state == r.Log.state; live {
		switch {
		case first && seq == r.state.applied:
			if !r.state.isNewest(seq, data) {
				r.Log.forgot = true
				return errReload
			}
			return nil
		case seq != r.state.applied+1: // the log has dropped what this node has not read
			r.Log.reload = true
			return errReload
		}
	}
	return r.next(seq, data)
}

// next applies the next message to the state that is built.
func (r *reading) next(seq uint64, data []byte) error {
	s := r.state
	if !s.ready {
		if begun, err := r.begin(seq, data); !begun {
			return err
		}
	} else if err := r.applyOne(seq, data); err != nil {
		return err
	}
	if r.state == r.Log.state && r.state.scarred {
		r.Log.forgot = true
		return errReload
	}
	return r.finishLocked()
}

// errVersion means that another version of caddy-sse writes the log.
var errVersion = errors.New("the log holds messages of another version of caddy-sse, or of another program")

func (r *reading) applyOne(seq uint64, data []byte) error {
	live := r.state == r.Log.state
	if !live && r.state.applied > 0 && seq != r.state.applied+1 {
		r.state.scarred = true
	}
	e, ok := r.state.apply(seq, data)
	if !ok {
		return errVersion
	}
	if live {
		r.announce(e)
		return nil
	}
	if w := r.waiting; w != nil && e.node == r.node && e.block == w.block {
		w.decided = e.decided
	}
	if r.state.mirror != nil {
		_ = r.state.mirror.Trim(r.history, time.Now()) // never fails
	}
	return nil
}

// begin looks for a beginning: the log's first message, a checkpoint, or an epoch.
func (r *reading) begin(seq uint64, data []byte) (bool, error) {
	if seq == r.state.applied+1 {
		return true, r.applyOne(seq, data)
	}
	r.unread = append(r.unread, unread{seq, data})
	m, ok := decodeMessage(data)
	if !ok {
		return false, errVersion
	}
	block, whole := r.scan.add(seq, m)
	if !whole || len(block) == 0 {
		return false, r.finishLocked()
	}
	switch block[0] {
	case kindEpoch:
		if n, ok := decodeEpoch(block[1:]); ok && n.replaces == anyEpoch {
			r.state.applied = seq - 1
			r.unread = nil
			return true, r.applyOne(seq, data)
		}
	case kindCheckpoint:
		if c, ok := decodeCheckpoint(block[1:]); ok && c.base+1 >= r.unread[0].seq {
			return r.restore(&c)
		}
	}
	return false, r.finishLocked()
}

// restore begins with a checkpoint, and applies the messages after it.
func (r *reading) restore(c *decodedCheckpoint) (bool, error) {
	s, ok := c.restore(r.hooksOutcome)
	if !ok {
		return false, r.finishLocked()
	}
	r.state = s
	unread := r.unread
	r.unread = nil
	for _, m := range unread {
		if m.seq > c.base {
			if err := r.applyOne(m.seq, m.data); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

// seen returns the newest message that was read.
func (r *reading) seen() uint64 {
	if n := len(r.unread); n > 0 {
		return r.unread[n-1].seq
	}
	return r.state.applied
}

func (r *reading) finish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.finishLocked()
}

// finishLocked makes a state that has reached its target the log's. If the log has
// no epoch, or must get another, this node proposes one first.
func (r *reading) finishLocked() error {
	s, old := r.state, r.Log.state
	if s == old || r.seen() < r.target {
		return nil
	}
	replaces := s.epoch
	switch {
	case !s.ready && r.target > 0:
		replaces = anyEpoch
	case !s.ready, s.scarred:
	case r.forgot && old != nil && s.epoch == old.epoch:
	default:
		r.replace()
		return nil
	}
	if r.proposed {
		return nil
	}
	r.proposed = true
	return r.proposeEpoch(replaces)
}

// epochGap is how far the positions of a new epoch are from those that this node
// knows: other nodes may have seen more.
const epochGap = 1 << 20

func (r *reading) proposeEpoch(replaces string) error {
	n := newEpoch{replaces: replaces, epoch: epochName(), secret: r.state.secret, head: r.state.head}
	if old := r.Log.state; old != nil {
		n.head, n.secret = max(n.head, old.head), old.secret
	}
	if len(n.secret) == 0 {
		n.secret = r.mirror.Load().Secret()
	}
	if r.Log.state != nil || replaces != "" {
		n.head += epochGap
	}
	r.blocks++
	messages := encodeMessages(r.node, r.blocks, n.encode(), r.engine.MaxMessage())
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	return r.send(ctx, messages)
}

// replace makes the state that was built the log's.
func (r *reading) replace() {
	l := r.Log
	lost := r.state.epoch != l.Epoch()
	l.state, l.forgot, l.reload = r.state, false, false
	_ = r.state.mirror.Trim(l.history, time.Now()) // never fails
	l.mirror.Store(r.state.mirror)
	l.hooks.Replaced(lost)
	select {
	case <-l.ready:
	default:
		close(l.ready)
	}
	if w := l.waiting; w != nil && l.state.nodes[l.node].block >= w.block {
		w.unknown = w.decided == nil
		l.waiting = nil
		close(w.done)
	}
	l.notify()
}

// announce tells publishers and readers what a message has changed.
func (r *reading) announce(e effect) {
	l := r.Log
	if e.newEpoch {
		l.log.Error("another process has found that the hub's log has lost events: a new epoch begins, and clients are reset")
		l.mirror.Store(r.state.mirror)
		l.hooks.Replaced(true)
	}
	if w := l.waiting; w != nil && e.node == l.node && e.block == w.block {
		w.decided = e.decided
		l.waiting = nil
		close(w.done)
	}
	if len(e.entries) > 0 {
		l.hooks.Appended(e.entries)
		_ = r.state.mirror.Trim(l.history, time.Now()) // never fails
	}
	l.notify()
}

// notify wakes those that wait for the state to change.
func (l *Log) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}
