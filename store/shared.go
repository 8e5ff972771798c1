package store

import (
	"context"

	"github.com/caddy-sse/caddy-sse/event"
)

// Shared is a store whose log several processes append to at the same time. Each
// process has a copy of the log, which the reading methods of [Store] read. The log
// decides the order of what the processes propose, and with it every position.
//
// Append isn't for a shared log: it fails. Trim bounds this process's copy from now
// on, without further calls. Epoch changes if the log loses its end, and so does the
// epoch of a process that starts before it can reach the log.
type Shared interface {
	Store
	// Publish publishes what propose returns, and sets the results of each
	// proposal. It calls propose until that returns nothing: propose compares
	// the proposals with this process's copy as it is at the moment, and leaves
	// out what has Decided set and what is known to be a duplicate. It must call
	// only methods of [Store].
	//
	// Publish returns when this process's copy holds what the log has decided.
	// If it fails, the log may hold the undecided proposals later, as a request
	// whose connection breaks may have succeeded. One goroutine at a time may
	// call it.
	Publish(propose func() []*Proposal) error
	// Attach sets the hooks, and waits until this process has read the log, or
	// until it is clear that it can't be reached. The caller calls it once, before
	// any other method.
	Attach(Hooks)
	// Sync returns when this process's copy holds everything that any process
	// had published before the call. It fails when ctx ends, and at once while
	// the log can't be reached.
	Sync(ctx context.Context) error
}

// Hooks are what a [Shared] log calls. It calls one at a time.
type Hooks struct {
	// Outcome encodes the outcome of a delivery, whose events are adjacent. Every
	// process must return the same. See [IdempotencyRecord].
	Outcome func(first uint64, entries []*Entry) string
	// Appended is called with the entries that any process has published, in the
	// order of the log, after they can be read and before any of them is dropped.
	Appended func(entries []*Entry)
	// Replaced is called when this process's copy has been replaced by another.
	// lost means that the new one has another epoch: whoever has read of the old
	// one may have missed events.
	Replaced func(lost bool)
}

// Proposal is what one publisher proposes: all of it becomes part of the log, or
// nothing.
type Proposal struct {
	Events []ProposedEvent
	// Record has the scope, the key and the window of the delivery's idempotency
	// record. It is nil without a key.
	Record *IdempotencyRecord

	// Decided is a result: the log has decided the proposal.
	Decided bool
	// Duplicate is a result: another delivery with the same key was published at
	// the same moment, and came first. Outcome is its outcome.
	Duplicate bool
	Outcome   string
}

// ProposedEvent is one event of a [Proposal].
type ProposedEvent struct {
	// Topics are sorted, without duplicates.
	Topics []string
	// ID is the publisher's id, or empty. The log replaces it if another event
	// that came first has it.
	ID string
	// Frame is the event on the wire, without an id.
	Frame event.Frame

	// Entry is a result: the event's place in the log. It is nil if the proposal
	// is a duplicate. Duplicate means that an event with the same id on the same
	// topics came first; Entry is that one.
	Entry     *Entry
	Duplicate bool
}
