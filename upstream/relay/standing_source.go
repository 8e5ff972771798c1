package relay

import (
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// Source returns a stream of the rule's feeds, for a client with a Last-Event-ID; empty
// if it has none. The caller serves it, or closes its cursor.
func (r *StandingRule) Source(lastEventID string) stream.Source {
	src := stream.SubscribeReplaying(r.Hub, r.topics(), lastEventID, r.replayed())
	if src.Start == stream.Resumed {
		return src
	}
	for _, key := range r.keys() {
		if e := r.staleOf(key); e != nil {
			e.ID = src.Cursor.Position()
			if frame, err := e.Encode(); err == nil {
				src.Initial = append(src.Initial, &store.Entry{Frame: frame})
			}
		}
	}
	return src
}

// staleOf returns the stale event of a feed that fails, or nil.
func (r *StandingRule) staleOf(key string) *event.Event {
	f := r.Feeds.find(key)
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stale == nil {
		return nil
	}
	e := *f.stale
	return &e
}

// topics returns those of the rule's feeds.
func (r *StandingRule) topics() (topics []string) {
	for _, key := range r.keys() {
		topics = append(topics, eventTopic(key), stateTopic(key))
	}
	return topics
}

// replayed returns how many of the history's events a new client gets; negative for
// all.
func (r *StandingRule) replayed() int {
	if r.Config.Replay == replayAll {
		return -1
	}
	return r.Config.ReplayLast
}
