package diff

import (
	"bytes"
	"iter"
	"slices"
	"sync"
)

// tree locates the values of a document in its text. It is a flat list in the
// order of the text, in which a container precedes its contents. A tree of
// pointers would be several times as large.
type tree struct {
	text     []byte
	nodes    []node
	depth    int
	maxDepth int
	names    []digest // scratch: names of the objects that are being read
	// ambiguous reports that an object has members that JSON parsers disagree
	// about: two of one name, or one whose name is not Unicode text (see isText).
	// A patch could then give the client another document than ours.
	ambiguous bool
}

// node is a value, or the name of a member, which precedes its value.
type node struct {
	start, end uint32 // in the text
	next       uint32 // the node after this one and its contents
	digest     digest
}

// newTree reads a text that is known to be valid JSON without white space.
func newTree(text []byte) *tree {
	t := new(tree)
	t.read(text)
	return t
}

// scratchTrees holds trees for scan. A tree is several times as large as its text.
var scratchTrees = sync.Pool{New: func() any { return new(tree) }}

// scan returns the digest of a text and how deep it is nested.
func scan(text []byte) (d digest, depth int) {
	t := scratchTrees.Get().(*tree)
	t.read(text)
	d, depth = t.digest(), t.maxDepth
	t.text = nil
	scratchTrees.Put(t)
	return d, depth
}

func (t *tree) read(text []byte) {
	*t = tree{text: text, nodes: slices.Grow(t.nodes[:0], estimateNodes(text)), names: t.names[:0]}
	t.readValue(0)
}

// estimateNodes returns roughly how many nodes a text has. Counting punctuation
// is many times as fast as growing the list; punctuation in strings makes the
// estimate too high.
func estimateNodes(text []byte) int {
	n := 1
	for _, mark := range []string{",", ":", "[", "{"} {
		n += bytes.Count(text, []byte(mark))
	}
	return min(n, len(text)/4+1)
}

func (t *tree) root() value { return value{t, 0} }

// digest returns the digest of the document. An ambiguous document has another
// digest than its unambiguous equal: a client may hold the text of either, and a
// patch is safe for only one of them.
func (t *tree) digest() digest {
	if t.ambiguous {
		return digest{'?'}.combine(t.root().digest())
	}
	return t.root().digest()
}

// readValue reads the value at a position and returns the position after it.
func (t *tree) readValue(at int) int {
	i := len(t.nodes)
	t.nodes = append(t.nodes, node{start: uint32(at)})
	end, digest := t.readContent(at)
	n := &t.nodes[i]
	n.end, n.next, n.digest = uint32(end), uint32(len(t.nodes)), digest
	return end
}

func (t *tree) readContent(at int) (end int, d digest) {
	switch t.text[at] {
	case '[':
		return t.readArray(at)
	case '{':
		return t.readObject(at)
	case '"':
		end = endOfString(t.text, at)
		return end, stringDigest(t.text[at:end])
	case 't', 'f', 'n':
		end = endOfScalar(t.text, at)
		return end, digestOf(t.text[at:end])
	default:
		end = endOfScalar(t.text, at)
		return end, numberDigest(t.text[at:end])
	}
}

// readArray reads an array, whose digest depends on the order of its items.
func (t *tree) readArray(at int) (end int, d digest) {
	t.descend()
	d = digest{'['}
	for at++; t.text[at] != ']'; {
		if t.text[at] == ',' {
			at++
		}
		item := len(t.nodes)
		at = t.readValue(at)
		d = d.combine(t.nodes[item].digest)
	}
	t.depth--
	return at + 1, d
}

// readObject reads an object, whose digest doesn't depend on the order of its
// members.
func (t *tree) readObject(at int) (end int, d digest) {
	t.descend()
	first := len(t.nodes)
	for at++; t.text[at] != '}'; {
		if t.text[at] == ',' {
			at++
		}
		end := t.readValue(at)
		t.ambiguous = t.ambiguous || !isText(t.text[at:end])
		at = t.readValue(end + 1) // after the colon
	}
	t.depth--
	return at + 1, t.membersDigest(first)
}

func (t *tree) descend() {
	t.depth++
	t.maxDepth = max(t.maxDepth, t.depth)
}

// membersDigest skips members that a later one of the same name replaces.
func (t *tree) membersDigest(first int) digest {
	base := len(t.names)
	for i := first; i < len(t.nodes); i = t.after(i + 1) {
		t.names = append(t.names, t.nodes[i].digest)
	}
	isDuplicate := duplicates(t.names[base:])
	d := digest{'{'}
	for i, m := first, 0; i < len(t.nodes); i, m = t.after(i+1), m+1 {
		if isDuplicate(m) {
			t.ambiguous = true
			continue
		}
		d = d.add(t.nodes[i].digest.combine(t.nodes[i+1].digest))
	}
	t.names = t.names[:base]
	return d
}

func (t *tree) after(i int) int { return int(t.nodes[i].next) }

// duplicates returns a function that reports whether the name at an index occurs
// again after it.
func duplicates(names []digest) func(int) bool {
	const few = 16 // a linear search of so many is faster than a map
	if len(names) <= few {
		return func(i int) bool { return slices.Contains(names[i+1:], names[i]) }
	}
	last := make(map[digest]int, len(names))
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

// value is one value in a tree.
type value struct {
	tree *tree
	at   uint32
}

func (v value) node() *node { return &v.tree.nodes[v.at] }

// raw returns the value's text.
func (v value) raw() []byte { return v.tree.text[v.node().start:v.node().end] }

func (v value) digest() digest { return v.node().digest }

// kind returns the value's first byte: '{', '[', '"', or that of another scalar.
func (v value) kind() byte { return v.tree.text[v.node().start] }

// children yields the items of an array, or names and values of an object in turn.
func (v value) children() iter.Seq[value] {
	return func(yield func(value) bool) {
		for i := v.at + 1; i < v.node().next; i = v.tree.nodes[i].next {
			if !yield(value{v.tree, i}) {
				return
			}
		}
	}
}

func (v value) items() []value { return slices.Collect(v.children()) }

// object holds an object's members in the order of the text. The document must
// not be ambiguous.
type object struct {
	members []member
	byName  map[digest]value
}

type member struct{ name, value value }

func (v value) object() object {
	o := object{byName: make(map[digest]value)}
	for i := v.at + 1; i < v.node().next; i = v.tree.nodes[i+1].next {
		m := member{value{v.tree, i}, value{v.tree, i + 1}}
		o.members = append(o.members, m)
		o.byName[m.name.digest()] = m.value
	}
	return o
}

// member returns the member of a name; false if v is not an object that has one.
func (v value) member(name digest) (found value, ok bool) {
	if v.kind() != '{' {
		return value{}, false
	}
	for i := v.at + 1; i < v.node().next; i = v.tree.nodes[i+1].next {
		if v.tree.nodes[i].digest == name {
			found, ok = value{v.tree, i + 1}, true // the last one counts
		}
	}
	return found, ok
}
