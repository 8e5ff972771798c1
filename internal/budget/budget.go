// Package budget bounds the memory of the documents that are worked on at a time.
package budget

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Process is the budget of all documents of the process: 512 MiB.
var Process = New(512 << 20)

// small is the memory in bytes below which a document doesn't wait: 1 MiB.
const small = 1 << 20

// Budget is an amount of memory. It is safe for concurrent use.
type Budget struct {
	half          int64
	medium, large *semaphore.Weighted // a half each
}

// New returns a budget of so many bytes.
func New(bytes int64) *Budget {
	half := bytes / 2
	return &Budget{half, semaphore.NewWeighted(half), semaphore.NewWeighted(half)}
}

// Take waits until so many bytes are free, and takes them until the caller calls
// release, once. The error is the cause of the context's end. A caller
// that holds a part of the budget must not take another.
//
// Half of the budget is for documents that need an eighth of it or more. One that
// needs more than the half waits until it is the only one of these. So documents
// wait only for others of their kind, and those that need less than 1 MiB neither
// wait nor count.
func (b *Budget) Take(ctx context.Context, bytes int64) (release func(), err error) {
	if bytes < small {
		return func() {}, nil
	}
	free := b.medium
	if bytes >= b.half/4 {
		free = b.large
	}
	bytes = min(bytes, b.half)
	if free.Acquire(ctx, bytes) != nil {
		return nil, context.Cause(ctx)
	}
	return func() { free.Release(bytes) }, nil
}
