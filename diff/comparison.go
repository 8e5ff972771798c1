package diff

import "context"

// comparison reads two documents where they differ, within a budget.
type comparison struct {
	from, to side
	budget   *budget
}

func newComparison(ctx context.Context, from, to *Document) *comparison {
	return &comparison{side{from.text}, side{to.text}, newBudget(ctx, from, to)}
}

// The bytes of what is in memory while containers are compared.
const (
	itemSize   = 24
	memberSize = 2*24 + 4
)

// trim returns what differs between two containers of one kind, and false if the
// budget is spent, which must be left for the memory in any case.
func (c *comparison) trim(from, to value, size int, use func(differing) bool) bool {
	if !c.budget.spend(from.len() + to.len()) {
		return false
	}
	d := trim(c.from.raw(from), c.to.raw(to))
	memory := size * (d.from.count + d.to.count)
	defer c.budget.release(memory)
	return c.budget.reserve(memory) && use(d)
}

// arrays calls use with the items that differ, and how many equal ones precede
// them. It returns false if use does, or the budget is spent.
func (c *comparison) arrays(from, to value, use func(skipped int, from, to []value) bool) bool {
	return c.trim(from, to, itemSize, func(d differing) bool {
		return use(d.skipped, c.from.items(from, d.from), c.to.items(to, d.to))
	})
}

// objects calls use with the members that differ.
func (c *comparison) objects(from, to value, use func(from, to *object) bool) bool {
	return c.trim(from, to, memberSize, func(d differing) bool {
		return use(c.from.object(from, d.from), c.to.object(to, d.to))
	})
}
