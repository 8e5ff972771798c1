package diff

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"iter"
	"slices"
)

func compactTokens(doc []byte) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(len(doc))
	err := json.Compact(&buf, doc)
	return buf.Bytes(), err
}

// tree is where the values of a document lie in its text: a flat list in the
// order of the text, in which a container is followed by what it contains. A
// tree of pointers would be several times as large.
type tree struct {
	text    []byte
	nodes   []node
	depth   int
	deepest int
	names   []sum // scratch for the members of objects that are being read
	// ambiguous: an object has members that readers of JSON don't agree upon,
	// two of one name, or one whose name is no text; see isText. Patches of
	// what a client may hold otherwise than we do are not safe.
	ambiguous bool
}

// node is a value, or the name of a member, which its value follows.
type node struct {
	start, end uint32 // in the text
	next       uint32 // the node after this one and all that is in it
	sum        sum
}

// newTree reads a compact document that is known to be valid.
func newTree(text []byte) *tree {
	t := &tree{text: text, nodes: make([]node, 0, nodesIn(text))}
	t.read(0)
	return t
}

// nodesIn is about how many nodes a text has. To count the marks in it is many
// times as fast as to let the list grow; those in strings make it too many.
func nodesIn(text []byte) int {
	n := 1
	for _, mark := range []string{",", ":", "[", "{"} {
		n += bytes.Count(text, []byte(mark))
	}
	return min(n, len(text)/4+1)
}

func (t *tree) root() value { return value{t, 0} }

// sum is that of the document, which tells apart what is ambiguous: a client may
// hold another text than the last of several that are equal, and what is safe to
// do with the one must be so with the others.
func (t *tree) sum() sum {
	if t.ambiguous {
		return sum{'?'}.with(t.root().sum())
	}
	return t.root().sum()
}

// read reads the value at a position and returns the position after it.
func (t *tree) read(at int) int {
	i := len(t.nodes)
	t.nodes = append(t.nodes, node{start: uint32(at)})
	end, s := t.content(at)
	n := &t.nodes[i]
	n.end, n.next, n.sum = uint32(end), uint32(len(t.nodes)), s
	return end
}

func (t *tree) content(at int) (end int, s sum) {
	switch t.text[at] {
	case '[':
		return t.array(at)
	case '{':
		return t.object(at)
	case '"':
		end = endOfString(t.text, at)
		return end, sumOfString(t.text[at:end])
	case 't', 'f', 'n':
		end = endOfScalar(t.text, at)
		return end, sumOf(t.text[at:end])
	default:
		end = endOfScalar(t.text, at)
		return end, sumOfNumber(t.text[at:end])
	}
}

// array reads an array, whose sum depends on the order of its items.
func (t *tree) array(at int) (end int, s sum) {
	t.enter()
	s = sum{'['}
	for at++; t.text[at] != ']'; {
		if t.text[at] == ',' {
			at++
		}
		item := len(t.nodes)
		at = t.read(at)
		s = s.with(t.nodes[item].sum)
	}
	t.depth--
	return at + 1, s
}

// object reads an object, whose sum does not depend on the order of its
// members: it adds up.
func (t *tree) object(at int) (end int, s sum) {
	t.enter()
	first := len(t.nodes)
	for at++; t.text[at] != '}'; {
		if t.text[at] == ',' {
			at++
		}
		end := t.read(at)
		t.ambiguous = t.ambiguous || !isText(t.text[at:end])
		at = t.read(end + 1) // after the colon
	}
	t.depth--
	return at + 1, t.sumOfMembers(first)
}

func (t *tree) enter() {
	t.depth++
	t.deepest = max(t.deepest, t.depth)
}

// sumOfMembers leaves out members that a later one of the same name hides.
func (t *tree) sumOfMembers(first int) sum {
	base := len(t.names)
	for i := first; i < len(t.nodes); i = t.after(i + 1) {
		t.names = append(t.names, t.nodes[i].sum)
	}
	hidden := hiding(t.names[base:])
	s := sum{'{'}
	for i, m := first, 0; i < len(t.nodes); i, m = t.after(i+1), m+1 {
		if hidden(m) {
			t.ambiguous = true
			continue
		}
		s = s.plus(t.nodes[i].sum.with(t.nodes[i+1].sum))
	}
	t.names = t.names[:base]
	return s
}

func (t *tree) after(i int) int { return int(t.nodes[i].next) }

// hiding returns what tells whether a later member has the name of one.
func hiding(names []sum) func(int) bool {
	const few = 16 // up to which looking at all of them is faster than a map
	if len(names) <= few {
		return func(i int) bool { return slices.Contains(names[i+1:], names[i]) }
	}
	last := make(map[sum]int, len(names))
	for i, name := range names {
		last[name] = i
	}
	return func(i int) bool { return last[names[i]] != i }
}

// endOfString returns the position after the string that begins at one.
func endOfString(text []byte, at int) int {
	for at++; text[at] != '"'; at++ {
		if text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// endOfScalar returns the position after a number, true, false or null.
func endOfScalar(text []byte, at int) int {
	for at < len(text) && text[at] != ',' && text[at] != ']' && text[at] != '}' {
		at++
	}
	return at
}

// value is a place in a tree.
type value struct {
	tree *tree
	at   uint32
}

func (v value) node() *node { return &v.tree.nodes[v.at] }

// raw is the value as it came.
func (v value) raw() []byte { return v.tree.text[v.node().start:v.node().end] }

func (v value) sum() sum { return v.node().sum }

// kind is the value's first byte: '{', '[', '"', or another for other scalars.
func (v value) kind() byte { return v.tree.text[v.node().start] }

// inside gives the items of an array, or names and values of an object in turn.
func (v value) inside() iter.Seq[value] {
	return func(yield func(value) bool) {
		for i := v.at + 1; i < v.node().next; i = v.tree.nodes[i].next {
			if !yield(value{v.tree, i}) {
				return
			}
		}
	}
}

func (v value) items() []value { return slices.Collect(v.inside()) }

// object is an object's members in the order in which they came. It is for
// documents that are not ambiguous.
type object struct {
	members []member
	byName  map[sum]value
}

type member struct{ name, value value }

func (v value) object() object {
	o := object{byName: make(map[sum]value)}
	for i := v.at + 1; i < v.node().next; i = v.tree.nodes[i+1].next {
		m := member{value{v.tree, i}, value{v.tree, i + 1}}
		o.members = append(o.members, m)
		o.byName[m.name.sum()] = m.value
	}
	return o
}

// member returns the member of that name; false if v is no object that has one.
func (v value) member(name sum) (found value, ok bool) {
	if v.kind() != '{' {
		return value{}, false
	}
	for i := v.at + 1; i < v.node().next; i = v.tree.nodes[i+1].next {
		if v.tree.nodes[i].sum == name {
			found, ok = value{v.tree, i + 1}, true // and go on: the last one counts
		}
	}
	return found, ok
}

// sum is a digest of a value: equal for equal values, and by all odds for no
// others. Digests make each comparison of two values, however large, as cheap
// as one of two numbers.
type sum [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func sumOf(b []byte) sum {
	return sum{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

// with depends on the order: a.with(b) is not b.with(a).
func (s sum) with(other sum) sum {
	pair := [2]sum{s, other}
	return sum{maphash.Comparable(seeds[0], pair), maphash.Comparable(seeds[1], pair)}
}

// plus does not.
func (s sum) plus(other sum) sum { return sum{s[0] + other[0], s[1] + other[1]} }
