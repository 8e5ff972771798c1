package diff

import (
	"cmp"
	"slices"
)

// value is a value of a document, located in its text.
type value struct {
	start, end uint32
	digest     digest
}

// side is one of the two documents that are compared. Its containers are read
// one at a time, on the way to what differs.
type side struct{ text []byte }

// raw returns the value's text.
func (s side) raw(v value) []byte { return s.text[v.start:v.end] }

func (v value) len() int { return int(v.end - v.start) }

// kind returns the value's first byte: '{', '[', '"', or that of another scalar.
func (s side) kind(v value) byte { return s.text[v.start] }

func (d *Document) root() value { return value{end: uint32(len(d.text)), digest: d.digest} }

// differing is the contents of two containers of one kind, without the first
// and the last ones that have equal texts in both: mostly all but a few.
type differing struct {
	skipped  int // items or members before these
	from, to stretch
}

// stretch is a range of a container's contents in the text, with the commas
// between them, and perhaps one before them. It holds count items or members.
type stretch struct {
	start, end int
	count      int
}

// trim returns what differs between two containers.
//
// A text that ends a container in both documents, and in one of them begins
// with the comma after an item, begins with such a comma in the other one, too:
// it has as many quotes and brackets there.
func trim(from, to []byte) differing {
	prefix := commonPrefix(from, to)
	suffix := commonSuffix(from[prefix:], to[prefix:])
	var d differing
	start, end, count := 1, len(from)-1, 0
	for at := 1; at < len(from)-1; {
		if from[at] == ',' {
			if len(from)-at <= suffix {
				end = at
				break
			}
			at++
		}
		if at = endOfContent(from, at); at < prefix && count == 0 {
			start, d.skipped = at, d.skipped+1
		} else {
			count++
		}
	}
	d.from = stretch{start, end, count}
	d.to = stretch{start: start, end: len(to) - len(from) + end}
	d.to.countContents(to)
	return d
}

func (s *stretch) countContents(text []byte) {
	for at := s.start; at < s.end; s.count++ {
		if text[at] == ',' {
			at++
		}
		at = endOfContent(text, at)
	}
}

// endOfContent returns the position after an item of an array or a member of an
// object, of which no string that is an item is followed by a colon.
func endOfContent(text []byte, at int) int {
	end := endOfValue(text, at)
	if text[end] == ':' {
		return endOfValue(text, end+1)
	}
	return end
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[len(a)-1-i] != b[len(b)-1-i] {
			return i
		}
	}
	return n
}

// items returns the items in a stretch of an array.
func (s side) items(array value, part stretch) []value {
	scan := newScanner(s.text)
	defer scan.free()
	items := make([]value, 0, part.count)
	for at, end := int(array.start)+part.start, int(array.start)+part.end; at < end; {
		if s.text[at] == ',' {
			at++
		}
		item := scan.located(at)
		items, at = append(items, item), int(item.end)
	}
	return items
}

// object holds members of an object in the order of the text. Their names are
// unique.
type object struct {
	members []member
	byName  []int32 // indices of the members, in the order of their names' digests
}

type member struct{ name, value value }

func (s side) object(v value, part stretch) *object {
	members := make([]member, 0, part.count)
	scan := newScanner(s.text)
	defer scan.free()
	for at, end := int(v.start)+part.start, int(v.start)+part.end; at < end; {
		if s.text[at] == ',' {
			at++
		}
		name := scan.located(at)
		value := scan.located(int(name.end) + 1) // after the colon
		members, at = append(members, member{name, value}), int(value.end)
	}
	return newObject(members)
}

func newObject(members []member) *object {
	o := &object{members, make([]int32, len(members))}
	for i := range o.byName {
		o.byName[i] = int32(i)
	}
	slices.SortFunc(o.byName, func(i, j int32) int {
		return members[i].name.digest.compare(members[j].name.digest)
	})
	return o
}

func (o *object) isUnique() bool {
	for i := 1; i < len(o.byName); i++ {
		if o.members[o.byName[i]].name.digest == o.members[o.byName[i-1]].name.digest {
			return false
		}
	}
	return true
}

// member returns the value of the member of a name, and whether there is one.
func (o *object) member(name digest) (value, bool) {
	i, ok := slices.BinarySearchFunc(o.byName, name, func(i int32, name digest) int {
		return o.members[i].name.digest.compare(name)
	})
	if !ok {
		return value{}, false
	}
	return o.members[o.byName[i]].value, true
}

func (d digest) compare(other digest) int {
	return cmp.Or(cmp.Compare(d[0], other[0]), cmp.Compare(d[1], other[1]))
}
