package diff

import "slices"

// hunk is a range in which two lists differ: from[fromStart:fromEnd] has become
// to[toStart:toEnd].
type hunk struct{ fromStart, fromEnd, toStart, toEnd int }

// maxEdits limits how many insertions and deletions the search for common items
// considers. Its time grows with this number and the lists' lengths, its memory
// with the number's square, to 1 MiB. Lists that differ more are one hunk.
const maxEdits = 512

// diffLists returns the hunks between two lists, in order. It returns false if
// the budget is spent.
func diffLists(from, to []value, work *budget) ([]hunk, bool) {
	prefix := 0
	for prefix < min(len(from), len(to)) && from[prefix].digest == to[prefix].digest {
		prefix++
	}
	suffix := 0
	for suffix < min(len(from), len(to))-prefix && from[len(from)-1-suffix].digest == to[len(to)-1-suffix].digest {
		suffix++
	}
	a, b := from[prefix:len(from)-suffix], to[prefix:len(to)-suffix]
	hunks, ok := shortestEdits(a, b, work)
	if !ok {
		hunks = []hunk{{0, len(a), 0, len(b)}}
	}
	for i := range hunks {
		hunks[i] = hunks[i].shift(prefix)
	}
	return hunks, work.spend(0)
}

func (h hunk) shift(by int) hunk {
	return hunk{h.fromStart + by, h.fromEnd + by, h.toStart + by, h.toEnd + by}
}

// shortestEdits finds the fewest insertions and deletions by the greedy
// algorithm of E. Myers, "An O(ND) Difference Algorithm and Its Variations"
// (Algorithmica 1, 1986). It returns false if there are more than [maxEdits],
// or the budget is spent.
//
// In the paper's terms: after d edits, reach[k+d] is the furthest x on diagonal
// k = x - y, where x items of a and y items of b are consumed.
func shortestEdits(a, b []value, work *budget) ([]hunk, bool) {
	var steps [][]int32 // reach after each number of edits
	for d := 0; d <= min(maxEdits, len(a)+len(b)); d++ {
		reach, compared := make([]int32, 2*d+1), d+1
		for k := -d; k <= d; k += 2 {
			x := afterEdit(steps, d, k)
			for x < len(a) && x-k >= 0 && x-k < len(b) && a[x].digest == b[x-k].digest {
				x++
				compared++
			}
			reach[k+d] = int32(x)
			if x >= len(a) && x-k >= len(b) {
				return backtrack(append(steps, reach), len(a), len(b)), true
			}
		}
		if !work.spend(comparisonCost * compared) {
			return nil, false
		}
		steps = append(steps, reach)
	}
	return nil, false
}

// afterEdit returns the x that edit d reaches on diagonal k, before it follows
// equal items: by an insertion from the diagonal above or a deletion from the
// one below, whichever gets further.
func afterEdit(steps [][]int32, d, k int) int {
	if d == 0 {
		return 0
	}
	before := steps[d-1]
	if isInsertion(before, d, k) {
		return int(before[k+1+d-1])
	}
	return int(before[k-1+d-1]) + 1
}

func isInsertion(before []int32, d, k int) bool {
	return k == -d || (k != d && before[k-1+d-1] < before[k+1+d-1])
}

// backtrack walks the steps from the end (x, y) to the beginning, and joins
// adjacent edits into hunks.
func backtrack(steps [][]int32, x, y int) []hunk {
	var hunks []hunk
	for d := len(steps) - 1; d > 0; d-- {
		k := x - y
		edit := hunk{fromEnd: afterEdit(steps, d, k)}
		edit.toEnd = edit.fromEnd - k
		if isInsertion(steps[d-1], d, k) {
			x, y = edit.fromEnd, edit.toEnd-1
		} else {
			x, y = edit.fromEnd-1, edit.toEnd
		}
		edit.fromStart, edit.toStart = x, y
		hunks = appendEarlier(hunks, edit)
	}
	slices.Reverse(hunks)
	return hunks
}

// appendEarlier appends an edit that precedes all hunks, or extends the last
// hunk if the two are adjacent.
func appendEarlier(hunks []hunk, edit hunk) []hunk {
	if len(hunks) > 0 {
		if last := &hunks[len(hunks)-1]; last.fromStart == edit.fromEnd && last.toStart == edit.toEnd {
			last.fromStart, last.toStart = edit.fromStart, edit.toStart
			return hunks
		}
	}
	return append(hunks, edit)
}
