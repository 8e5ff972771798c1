package shared

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// maintain drops old events from this node's copy and from the log, and finds out
// when the engine works again.
func (l *Log) maintain() {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	pause := time.Duration(0)
	var applied uint64
	for seconds := 1; ; seconds++ {
		select {
		case <-every.C:
		case <-l.ctx.Done():
			return
		}
		if l.isDown() || seconds%5 == 0 {
			applied = l.check(applied)
		}
		if l.isDown() {
			l.probe()
			continue
		}
		l.mu.Lock()
		if l.state != nil {
			_ = l.state.mirror.Trim(l.history, time.Now()) // never fails
		}
		l.mu.Unlock()
		if pause -= time.Second; pause > 0 {
			continue
		}
		// Another node's checkpoint makes this one's needless.
		pause = time.Minute/2 + rand.N(time.Minute)
		if err := l.truncate(); err != nil {
			l.log.Warn("the hub's log keeps old events longer", zap.Error(err))
		}
	}
}

// check makes this node read anew if the engine has fewer messages than this node has
// applied, or if the node has applied none since the last check and the engine has
// more. It returns the newest message that is applied if there are more.
func (l *Log) check(before uint64) uint64 {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	l.mu.Lock()
	var applied uint64
	if l.state != nil {
		applied = l.state.applied
	}
	l.mu.Unlock()
	head, err := l.engine.Head(ctx)
	if err != nil || applied == 0 {
		return 0
	}
	if head < applied || before == applied && head > applied {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.stopRead != nil {
			l.stopRead()
		}
		return 0
	}
	if head > applied {
		return applied
	}
	return 0
}

// probe appends a block without proposals.
func (l *Log) probe() {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	_, _ = l.append(ctx, func(s *state) []byte {
		p := proposals{epoch: s.epoch, at: s.newest}
		p.base, p.chain = s.base()
		return p.encode()
	})
}

// truncate appends a checkpoint if it is time, and drops what has left the history
// from the log.
func (l *Log) truncate() error {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	_, err := l.append(ctx, func(s *state) []byte {
		if !s.wantsCheckpoint(l.history, time.Now()) {
			return nil
		}
		return s.encodeCheckpoint()
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	var upTo uint64
	if l.state != nil {
		upTo = l.state.droppable()
	}
	l.mu.Unlock()
	if upTo == 0 {
		return nil
	}
	return l.engine.Drop(ctx, upTo)
}
