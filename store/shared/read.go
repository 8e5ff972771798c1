package shared

import (
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// The methods in this file read this node's copy of the log.

var _ store.Shared = (*Log)(nil)

// Epoch implements [store.Store].
func (l *Log) Epoch() string { return l.mirror.Load().Epoch() }

// Secret implements [store.Store].
func (l *Log) Secret() []byte { return l.mirror.Load().Secret() }

// Range implements [store.Store].
func (l *Log) Range() (tail, head uint64) { return l.mirror.Load().Range() }

// Oldest implements [store.Store].
func (l *Log) Oldest() (time.Time, bool) { return l.mirror.Load().Oldest() }

// Entry implements [store.Store].
func (l *Log) Entry(seq uint64) *store.Entry { return l.mirror.Load().Entry(seq) }

// Lookup implements [store.Store].
func (l *Log) Lookup(id string) *store.Entry { return l.mirror.Load().Lookup(id) }

// IdempotencyRecord implements [store.Store].
func (l *Log) IdempotencyRecord(scope string, key store.HashedKey) (time.Time, string, bool) {
	return l.mirror.Load().IdempotencyRecord(scope, key)
}

// Last implements [store.Store].
func (l *Log) Last(topic string) *store.Entry { return l.mirror.Load().Last(topic) }

// Before implements [store.Store].
func (l *Log) Before(topics []string, n int) uint64 { return l.mirror.Load().Before(topics, n) }

// Topics implements [store.Store].
func (l *Log) Topics(prefix string) []string { return l.mirror.Load().Topics(prefix) }

// Read implements [store.Store].
func (l *Log) Read(topics []string, after uint64, maxBytes int, buf []*store.Entry) (store.Batch, error) {
	return l.mirror.Load().Read(topics, after, maxBytes, buf)
}
