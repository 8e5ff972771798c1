package diff

import "context"

// budget bounds the work that describing one change may take, how much is written
// on the way and how much memory is in use at a time, by the size of both
// documents. Without it, the work can grow with the square of the size: each level
// of a nested document is read again, may write its changes, find a replace to be
// shorter, and drop them.
//
// A byte that is read or written costs one unit, and a comparison of two values
// four.
type budget struct {
	ctx       context.Context
	left      int
	unchecked int // units since the context was last looked at
	memory    int // bytes
}

const (
	// minBudget is enough for every change of a document of some 100 KiB.
	minBudget      = 8 << 20
	unitsPerByte   = 8
	comparisonCost = 4
	checkInterval  = 1 << 16 // units

	minMemory = 1 << 20
)

func newBudget(ctx context.Context, from, to *Document) *budget {
	size := len(from.text) + len(to.text)
	return &budget{ctx: ctx, left: minBudget + unitsPerByte*size, memory: minMemory + size/2}
}

// spend reports whether the budget had that many units left, and the context
// has not ended.
func (b *budget) spend(units int) bool {
	b.left -= units
	if b.unchecked += units; b.unchecked >= checkInterval {
		b.unchecked = 0
		if b.ctx.Err() != nil {
			b.left = -1
		}
	}
	return b.left >= 0
}

// reserve reports whether so much memory is left. The caller releases it in any
// case.
func (b *budget) reserve(bytes int) bool {
	b.memory -= bytes
	return b.memory >= 0
}

func (b *budget) release(bytes int) { b.memory += bytes }
