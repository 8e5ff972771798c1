package diff

import "slices"

// gap is a place where two lists differ: old[oldStart:oldEnd] has become
// new[newStart:newEnd].
type gap struct{ oldStart, oldEnd, newStart, newEnd int }

// maxEdits bounds how many items, taken out and put in, are looked for in
// finding what two lists have in common: time grows with it and the lengths,
// memory with its square, to 1 MiB. Lists that differ more are one gap.
const maxEdits = 512

// gaps returns where two lists differ, in order.
func gaps(old, now []value) []gap {
	start := 0
	for start < min(len(old), len(now)) && old[start].sum() == now[start].sum() {
		start++
	}
	end := 0
	for end < min(len(old), len(now))-start && old[len(old)-1-end].sum() == now[len(now)-1-end].sum() {
		end++
	}
	a, b := old[start:len(old)-end], now[start:len(now)-end]
	found, ok := shortest(a, b)
	if !ok {
		found = []gap{{0, len(a), 0, len(b)}}
	}
	for i := range found {
		found[i] = found[i].shifted(start)
	}
	return found
}

func (g gap) shifted(by int) gap {
	return gap{g.oldStart + by, g.oldEnd + by, g.newStart + by, g.newEnd + by}
}

// shortest finds the fewest items to take out and put in, by the greedy
// algorithm of E. Myers, "An O(ND) Difference Algorithm and Its Variations"
// (Algorithmica 1, 1986). It returns false if they are more than [maxEdits].
//
// In its words: after d edits, reach[k+d] is how far one can get in a on the
// diagonal k, that is with k more items of a behind one than of b.
func shortest(a, b []value) ([]gap, bool) {
	var steps [][]int32 // reach after each number of edits
	for d := 0; d <= min(maxEdits, len(a)+len(b)); d++ {
		reach := make([]int32, 2*d+1)
		for k := -d; k <= d; k += 2 {
			x := furthest(steps, d, k)
			for x < len(a) && x-k >= 0 && x-k < len(b) && a[x].sum() == b[x-k].sum() {
				x++
			}
			reach[k+d] = int32(x)
			if x >= len(a) && x-k >= len(b) {
				return trace(append(steps, reach), len(a), len(b)), true
			}
		}
		steps = append(steps, reach)
	}
	return nil, false
}

// furthest is where edit d begins to follow diagonal k: from the diagonal above
// by putting an item in, or from the one below by taking one out.
func furthest(steps [][]int32, d, k int) int {
	if d == 0 {
		return 0
	}
	before := steps[d-1]
	if putIn(before, d, k) {
		return int(before[k+1+d-1])
	}
	return int(before[k-1+d-1]) + 1
}

func putIn(before []int32, d, k int) bool {
	return k == -d || (k != d && before[k-1+d-1] < before[k+1+d-1])
}

// trace walks back from the end, and joins edits that touch into gaps.
func trace(steps [][]int32, x, y int) []gap {
	var found []gap
	for d := len(steps) - 1; d > 0; d-- {
		k := x - y
		edit := gap{oldEnd: furthest(steps, d, k)}
		edit.newEnd = edit.oldEnd - k
		if putIn(steps[d-1], d, k) {
			x, y = edit.oldEnd, edit.newEnd-1
		} else {
			x, y = edit.oldEnd-1, edit.newEnd
		}
		edit.oldStart, edit.newStart = x, y
		found = joined(found, edit)
	}
	slices.Reverse(found)
	return found
}

// joined adds a gap that comes before those that are there.
func joined(found []gap, g gap) []gap {
	if len(found) > 0 {
		if last := &found[len(found)-1]; last.oldStart == g.oldEnd && last.newStart == g.newEnd {
			last.oldStart, last.newStart = g.oldStart, g.newStart
			return found
		}
	}
	return append(found, g)
}
