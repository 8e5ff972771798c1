package diff

import (
	"math/bits"
	"slices"
	"sync"
)

// scanner reads values of a text that is known to be valid JSON without white
// space. It keeps eight bytes for each member of the objects that are open, and
// nothing else: an index of all values is several times as large as the text.
type scanner struct {
	text     []byte
	names    []uint64 // of the members of the objects that are open
	depth    int
	maxDepth int
	// ambiguous reports that an object has members that JSON parsers disagree
	// about: two of one name, or one whose name is not Unicode text (see isText).
	// A patch could then give the client another document than ours.
	ambiguous bool
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

func newScanner(text []byte) *scanner {
	s := scanners.Get().(*scanner)
	*s = scanner{text: text, names: s.names[:0]}
	return s
}

// free lets another scan use the scanner.
func (s *scanner) free() {
	const maxKept = 8 << 10 // names
	if s.text = nil; cap(s.names) <= maxKept {
		scanners.Put(s)
	}
}

// located returns the value at a position.
func (s *scanner) located(at int) value {
	end, d := s.value(at)
	return value{uint32(at), uint32(end), d}
}

// value returns the position after the value at a position, and its digest.
func (s *scanner) value(at int) (end int, d digest) {
	switch s.text[at] {
	case '[':
		return s.array(at)
	case '{':
		return s.object(at)
	case '"':
		end = endOfString(s.text, at)
		return end, stringDigest(s.text[at:end])
	case 't', 'f', 'n':
		end = endOfScalar(s.text, at)
		return end, digestOf(s.text[at:end])
	default:
		end = endOfScalar(s.text, at)
		return end, numberDigest(s.text[at:end])
	}
}

// array reads an array, whose digest depends on the order of its items.
func (s *scanner) array(at int) (end int, d digest) {
	s.descend()
	d = digest{'['}
	for at++; s.text[at] != ']'; {
		if s.text[at] == ',' {
			at++
		}
		var item digest
		at, item = s.value(at)
		d = d.combine(item)
	}
	s.depth--
	return at + 1, d
}

// object reads an object, whose digest doesn't depend on the order of its
// members, unless it is ambiguous.
func (s *scanner) object(at int) (end int, d digest) {
	const factor = 0x9E3779B97F4A7C15 // odd
	s.descend()
	base, order, ambiguous := len(s.names), uint64(0), false
	d = digest{'{'}
	for at++; s.text[at] != '}'; {
		if s.text[at] == ',' {
			at++
		}
		end, name := s.value(at)
		ambiguous = ambiguous || !isText(s.text[at:end])
		var value digest
		at, value = s.value(end + 1) // after the colon
		member := name.combine(value)
		d, order = d.add(member), bits.RotateLeft64(order*factor, 32)+member[0]
		s.names = append(s.names, name[0])
	}
	if ambiguous || hasDuplicates(s.names[base:]) {
		s.ambiguous = true
		d = d.combine(digest{'?', order})
	}
	s.names = s.names[:base]
	s.depth--
	return at + 1, d
}

func (s *scanner) descend() {
	s.depth++
	s.maxDepth = max(s.maxDepth, s.depth)
}

// hasDuplicates changes the order of the names.
func hasDuplicates(names []uint64) bool {
	const few = 16 // a linear search of so many is faster
	if len(names) > few {
		slices.Sort(names)
		return len(slices.Compact(names)) < len(names)
	}
	for i, name := range names {
		if slices.Contains(names[i+1:], name) {
			return true
		}
	}
	return false
}

// endOfValue returns the position after the value that begins at one.
func endOfValue(text []byte, at int) int {
	if text[at] == '"' {
		return endOfString(text, at)
	}
	if text[at] != '[' && text[at] != '{' {
		return endOfScalar(text, at)
	}
	for depth := 0; ; at++ {
		switch text[at] {
		case '"':
			at = endOfString(text, at) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return at + 1
			}
		}
	}
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
