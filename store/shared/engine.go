// Package shared keeps a log that several processes append to. An [Engine], such
// as NATS JetStream, keeps the log and orders it; every process reads the whole log
// and keeps a copy of it in memory.
//
// A process appends a block of proposals without waiting for the others. Every
// process applies the blocks in the engine's order and by the same rules, so that
// all have the same positions and the same idempotency records: of two deliveries
// with one key, the second in the engine's order is the duplicate. See [state].
//
// docs/internals/cluster.md describes the format and says why.
package shared

import "context"

// Engine keeps a log of messages. It is safe for concurrent use, except that Read
// runs once at a time.
//
// The engine numbers the messages 1, 2, 3, and so on, without gaps. It may drop the
// oldest. An engine that loses its newest messages, as after a failover, may use
// their numbers again.
type Engine interface {
	// Append adds a message of at most MaxMessage bytes and returns once it is
	// as safe as the engine makes it. If Append fails, the message may be in the
	// log or come into it later.
	Append(ctx context.Context, message []byte) error
	// Read calls f with every message after a number, in order and each once:
	// those that the log holds, and then each that is added. If the log has
	// dropped the first of them, Read begins with the oldest. It returns f's
	// error, or an error when ctx ends or the connection breaks. f may keep the
	// message.
	Read(ctx context.Context, after uint64, f func(seq uint64, message []byte) error) error
	// Head returns the number of the newest message, zero if there was none. It
	// includes every message whose Append has returned before.
	Head(ctx context.Context) (uint64, error)
	// Drop drops the messages up to a number.
	Drop(ctx context.Context, upTo uint64) error
	// MaxMessage returns the largest number of bytes in a message.
	MaxMessage() int
	// Close ends all calls. No call may follow.
	Close() error
}
