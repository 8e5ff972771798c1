package diff

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// modesOfCost are the modes whose cost the package bounds itself; package jq
// bounds that of programs.
var modesOfCost = [][2]string{{"full", ""}, {"patch", ""}, {"merge", ""}, {"items", "id"}}

// allocated returns how many bytes a function allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// nestedLists returns lists in lists, each with siblings that hold n.
func nestedLists(depth, siblings, n int) []byte {
	var sibling strings.Builder
	for i := range siblings {
		fmt.Fprintf(&sibling, "%d,", n+i)
	}
	return []byte(strings.Repeat("["+sibling.String(), depth) + "0" + strings.Repeat("]", depth))
}

func nestedObjects(depth, siblings, n int) []byte {
	var sibling strings.Builder
	for i := range siblings {
		fmt.Fprintf(&sibling, `"k%d":%d,`, i, n+i)
	}
	return []byte(strings.Repeat("{"+sibling.String()+`"in":`, depth) + "0" + strings.Repeat("}", depth))
}

// wide returns a list of lists of which each has many items and differs wholly.
func wide(lists, items, n int) []byte {
	var list []string
	for i := range lists {
		var item []string
		for j := range items {
			item = append(item, fmt.Sprint((i*items+j)*2+n))
		}
		list = append(list, "["+strings.Join(item, ",")+"]")
	}
	return []byte("[" + strings.Join(list, ",") + "]")
}

// maxCost bounds how many bytes the description of a change may allocate: a
// constant, and some for each byte of the documents.
func maxCost(from, to *Document) uint64 { return 64<<20 + 64*uint64(len(from.text)+len(to.text)) }

func TestCostOfDiffGrowsWithSizeOfDocument(t *testing.T) {
	for name, build := range map[string]func(n int) []byte{
		"lists nested deep":    func(n int) []byte { return nestedLists(3000, 100, n) },
		"narrow lists":         func(n int) []byte { return nestedLists(9000, 1, n) },
		"objects nested deep":  func(n int) []byte { return nestedObjects(1000, 100, n) },
		"many different lists": func(n int) []byte { return wide(500, 256, n) },
	} {
		from, to := parse(t, string(build(1000))), parse(t, string(build(2001)))
		for _, m := range modesOfCost {
			mode := mode(t, m[0], m[1])
			cost := allocated(func() {
				if _, err := mode.Events(context.Background(), from, to); err != nil {
					t.Fatal(err)
				}
			})
			if cost > maxCost(from, to) {
				t.Errorf("%s, %s: documents of %d bytes allocate %d", name, mode, len(from.text)+len(to.text), cost)
			}
		}
	}
}

// A rule's timeout and the end of a view stop the comparison of documents.
func TestEndedContextGivesSnapshot(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		mode, argument string
		from, to       []byte
	}{
		{"patch", "", nestedLists(5, 20_000, 100_000), nestedLists(5, 20_000, 100_001)},
		{"merge", "", nestedObjects(5, 20_000, 100_000), []byte(strings.Replace(string(nestedObjects(5, 20_000, 100_000)), `"k9":`, `"k":`, 1))},
		{"items", "id", orders(100<<10, "1"), orders(100<<10, "2")},
	} {
		from, to := parse(t, string(c.from)), parse(t, string(c.to))
		for _, ctx := range []context.Context{context.Background(), ended} {
			events, err := mode(t, c.mode, c.argument).Events(ctx, from, to)
			if whole := ctx == ended; err != nil || len(events) != 1 || (events[0].Name == "") != whole {
				t.Errorf("%s, context %v: %d events, %v", c.mode, ctx.Err(), len(events), err)
			}
		}
	}
}

// FuzzCost builds two documents by a small program, so that little input makes
// large documents, and hunts for those whose description costs more than their
// size explains.
func FuzzCost(f *testing.F) {
	f.Add([]byte("[\xff1,\xff"), []byte("[\xff2,\xff"))
	f.Add([]byte("{\x40a1b2"), []byte("{\x40a2b1"))
	f.Add([]byte("[\x80{\x10a1"), []byte("[\x80{\x10b1"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		before, after := builtDocument(a), builtDocument(b)
		from, err := Parse(before)
		if err != nil {
			t.Skip()
		}
		to, err := Parse(after)
		if err != nil {
			t.Skip()
		}
		for _, m := range modesOfCost {
			mode := mode(t, m[0], m[1])
			cost := allocated(func() { _, _ = mode.Events(context.Background(), from, to) })
			if cost > maxCost(from, to) {
				t.Fatalf("%s: documents of %d bytes allocate %d", mode, len(before)+len(after), cost)
			}
		}
	})
}

// builtDocument builds a document of at most 1 MiB. A bracket and the byte after
// it nest so many lists or objects, any other pair of bytes is that many
// siblings of a scalar.
func builtDocument(program []byte) []byte {
	var open, end []byte
	for i := 0; i+1 < len(program) && len(open) < 1<<19; i += 2 {
		kind, count := program[i], int(program[i+1])+1
		for j := range count {
			switch {
			case kind == '[':
				open, end = append(open, `[0,`...), append(end, ']')
			case kind == '{':
				open, end = fmt.Appendf(open, `{"k%d":`, j%3), append(end, '}')
			case len(end) > 0 && end[len(end)-1] == ']':
				open = fmt.Appendf(open, "%d,", int(kind)*j)
			}
		}
	}
	open = append(open, '0')
	for i := len(end) - 1; i >= 0; i-- {
		open = append(open, end[i])
	}
	return open
}
