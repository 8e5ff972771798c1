package jq

import "math/bits"

// measurement is what decoding a document takes.
type measurement struct {
	size   int64    // bytes
	counts []uint32 // of the items or members of each container, in the order in which they begin
	open   []container
}

// container is one that is open.
type container struct {
	index    int // in counts
	isObject bool
}

// Sizes of Go's values, in bytes, for 64-bit machines.
const (
	sizeOfSlot   = 16 // an item
	sizeOfText   = 16 // what a slot refers to: a string, or the text of a number
	sizeOfInt    = 8
	sizeOfSlice  = 24
	sizeOfMap    = 48
	sizeOfCount  = 16 // with what the growth of counts leaves behind
	sizeOfMember = 36 // a slot of a map with its part of the control word
)

// measure returns what decoding a document takes that is valid JSON.
func measure(doc []byte) measurement {
	m := measurement{size: sizeOfSlot}
	isName := false // whether the next string is a member's name
	for at := 0; at < len(doc); {
		switch c := doc[at]; c {
		case '"':
			end, escaped := endOfString(doc, at)
			if escaped {
				m.size += int64(end - at)
			}
			if !isName {
				m.size += sizeOfText
			}
			at = end
			continue
		case '[', '{':
			m.begin(c == '{', isEmpty(doc, at+1))
			isName = c == '{'
		case ',':
			last := m.open[len(m.open)-1]
			m.counts[last.index]++
			isName = last.isObject
		case ':':
			isName = false
		case ']', '}':
			m.end()
		default:
			if end := endOfScalar(doc, at); end > at {
				m.size += sizeOfScalar(doc[at:end])
				at = end
				continue
			}
		}
		at++
	}
	return m
}

// begin adds a container, whose contents are one more than their commas.
func (m *measurement) begin(isObject, empty bool) {
	m.open = append(m.open, container{len(m.counts), isObject})
	count := uint32(1)
	if empty {
		count = 0
	}
	m.counts = append(m.counts, count)
	m.size += sizeOfCount
	if isObject {
		m.size += sizeOfMap
	} else {
		m.size += sizeOfSlice
	}
}

func (m *measurement) end() {
	last := len(m.open) - 1
	c := m.open[last]
	m.open = m.open[:last]
	if n := int64(m.counts[c.index]); c.isObject {
		m.size += sizeOfMembers(n)
	} else {
		m.size += n * sizeOfSlot
	}
}

// sizeOfMembers returns what a map takes for its members: it has a power of two
// of slots, at least 8, of which at most 7/8 are used, or all of the first 8.
func sizeOfMembers(n int64) int64 {
	switch {
	case n == 0:
		return 0
	case n <= 8:
		return 8 * sizeOfMember
	}
	return sizeOfMember << bits.Len64(uint64(n*8/7))
}

func sizeOfScalar(text []byte) int64 {
	switch {
	case text[0] >= 'a', len(text) <= 2: // Go has true, false and small numbers already
		return 0
	case isInt(text):
		return sizeOfInt
	default:
		return sizeOfText
	}
}

// isEmpty reports whether a container that begins before a position ends at once.
func isEmpty(doc []byte, at int) bool {
	for isSpace(doc[at]) {
		at++
	}
	return doc[at] == ']' || doc[at] == '}'
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// endOfString returns the position after the string that begins at one.
func endOfString(doc []byte, at int) (end int, escaped bool) {
	for at++; doc[at] != '"'; at++ {
		if doc[at] == '\\' {
			escaped = true
			at++
		}
	}
	return at + 1, escaped
}

// endOfScalar returns the position after a number, true, false or null.
func endOfScalar(doc []byte, at int) int {
	for at < len(doc) && (doc[at] >= '0' && doc[at] <= '9' || doc[at] >= 'a' && doc[at] <= 'z' || doc[at] == '-' || doc[at] == '.' || doc[at] == '+' || doc[at] == 'E') {
		at++
	}
	return at
}

// isInt reports whether a number is written as an int is: an integer of at most 18
// digits.
func isInt[T string | []byte](text T) bool {
	if len(text) > 18 || len(text) > 1 && text[0] == '-' && text[1] == '0' {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c == '.' || c == 'e' || c == 'E' {
			return false
		}
	}
	return true
}
