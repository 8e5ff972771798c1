package relay

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// publish publishes events. While the store fails, it waits and tries again: the
// backend is not read meanwhile.
func (f *feed) publish(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	f.publishing.Lock()
	defer f.publishing.Unlock()
	messages := make([]hub.Message, len(events))
	sizes := make([]int, len(events))
	for i, e := range events {
		frame, err := event.EncodeRelayed(e.Name, e.Data)
		if err != nil { // decoders and templates make only names and data that are valid
			return err
		}
		own := event.Event{ID: position(f.token, f.count+i+1)}
		messages[i], sizes[i] = hub.Message{Topics: f.topics, Event: own, Frame: frame}, len(frame)
	}
	err := publishAll(ctx, f.hub, messages, func(err error) {
		f.newestRelay().logFailure("events of the backend's stream can't be stored, which waits", zap.Error(err))
	})
	if err != nil {
		return err
	}
	f.count += len(events)
	f.addSizes(sizes)
	return nil
}

// publishAll publishes messages. While the store fails, it reports that, waits and
// tries again. It fails with the context's cause, or with [errClosed].
func publishAll(ctx context.Context, h *hub.Hub, messages []hub.Message, report func(error)) error {
	for {
		_, err := h.PublishAll(messages, hub.IdempotencyKey{})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, hub.ErrClosed):
			return errClosed
		}
		report(err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *feed) newestRelay() *Relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relay
}

// publishNotice publishes an event of the module's own. It reports no error: the
// feed ends with or without it.
func (f *feed) publishNotice(e event.Event) {
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Second)
	defer cancel()
	_ = f.publish(ctx, e)
}

// publishStale tells viewers once that the backend fails.
func (f *feed) publishStale(status int) {
	f.mu.Lock()
	before := f.failing
	f.failing = true
	f.mu.Unlock()
	if !before {
		f.publishNotice(stream.Stale(time.Now(), status))
	}
}

// addSizes counts events that have been published, and that no viewer has got.
func (f *feed) addSizes(sizes []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.published += len(sizes)
	sum := int64(0)
	for _, n := range sizes {
		sum += int64(n)
	}
	switch {
	case f.request.shared == nil:
		f.sizes, f.ahead = append(f.sizes, sizes...), f.ahead+sum
		f.dropSizesLocked()
	case f.viewers == 0:
		f.unwatched += sum
	}
}

// dropSizesLocked drops the sizes of the events that a viewer has got.
func (f *feed) dropSizesLocked() {
	n := min(max(len(f.sizes)-(f.published-int(f.acknowledged.Load())), 0), len(f.sizes))
	for _, size := range f.sizes[:n] {
		f.ahead -= int64(size)
	}
	if f.sizes = f.sizes[n:]; len(f.sizes) == 0 {
		f.sizes = nil
	}
}

// acknowledge records that a viewer has got the events up to a number.
func (f *feed) acknowledge(n int) {
	for {
		before := f.acknowledged.Load()
		if int64(n) <= before {
			return
		}
		if f.acknowledged.CompareAndSwap(before, int64(n)) {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	wasAhead := f.isAheadLocked()
	f.dropSizesLocked()
	if wasAhead && !f.isAheadLocked() {
		f.notifyLocked()
	}
}

// isAheadLocked reports whether the feed is so far ahead of its viewer that it stops
// reading. Viewers who share a feed don't hold it up, as they don't hold up others.
func (f *feed) isAheadLocked() bool {
	if f.request.shared != nil {
		return f.viewers == 0 && f.unwatched > f.config.MaxAhead
	}
	return f.ahead > f.config.MaxAhead || len(f.sizes) > f.config.MaxAheadEvents
}

// awaitRoom waits until the feed is not too far ahead of its viewers.
func (f *feed) awaitRoom(ctx context.Context) error {
	for {
		f.mu.Lock()
		ahead, changed := f.isAheadLocked(), f.changed
		f.mu.Unlock()
		if !ahead {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send returns the entry that a viewer gets now.
func (f *feed) send(e *store.Entry) *store.Entry {
	if _, n, ok := parsePosition(e.ID); ok {
		f.acknowledge(n)
	}
	return e
}
