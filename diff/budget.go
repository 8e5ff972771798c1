package diff

import "context"

// budget bounds the work that describing one change may take, and how much is
// written on the way, by the size of both documents. Without it, the work can
// grow with the square of the size: each level of a nested document may write
// its changes, find a replace to be shorter, and drop them.
//
// A byte that is written costs one unit, and a comparison of two values four.
type budget struct {
	ctx       context.Context
	left      int
	unchecked int // units since the context was last looked at
}

const (
	// minBudget is enough for every change of a document of some 100 KiB.
	minBudget      = 8 << 20
	unitsPerByte   = 8
	comparisonCost = 4
	checkInterval  = 1 << 16 // units
)

func newBudget(ctx context.Context, from, to *Document) *budget {
	return &budget{ctx: ctx, left: minBudget + unitsPerByte*(len(from.text)+len(to.text))}
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
