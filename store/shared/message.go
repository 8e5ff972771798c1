package shared

import (
	"encoding/binary"

	"github.com/caddy-sse/caddy-sse/internal/wire"
)

// version is the first byte of each message. A process stops at a version that it
// doesn't know.
const version = 1

// nodeID names a process. Each start makes another.
type nodeID [12]byte

// messageOverhead is the most that a message has beyond its part of the block.
const messageOverhead = 1 + len(nodeID{}) + 3*binary.MaxVarintLen64

// maxParts bounds the messages of a block.
const maxParts = 1 << 10

// message is one part of a block.
type message struct {
	node  nodeID
	block uint64 // the node's blocks are numbered from 1
	part  uint64 // from 0
	parts uint64
	data  []byte
}

// encodeMessages returns the messages of a node's block. None is larger than
// maxBytes.
func encodeMessages(node nodeID, number uint64, block []byte, maxBytes int) [][]byte {
	size := maxBytes - messageOverhead
	parts := max(1, (len(block)+size-1)/size)
	messages := make([][]byte, parts)
	for i := range messages {
		data := block[:min(size, len(block))]
		block = block[len(data):]
		b := append(make([]byte, 0, messageOverhead+len(data)), version)
		b = append(b, node[:]...)
		b = binary.AppendUvarint(b, number)
		b = binary.AppendUvarint(b, uint64(i))
		b = binary.AppendUvarint(b, uint64(parts))
		messages[i] = append(b, data...)
	}
	return messages
}

func decodeMessage(b []byte) (m message, ok bool) {
	r := wire.Reader{Rest: b}
	if r.Byte() != version {
		return m, false
	}
	copy(m.node[:], r.Bytes(uint64(len(m.node))))
	m.block, m.part, m.parts = r.Number(), r.Number(), r.Number()
	m.data = r.Rest
	return m, !r.Failed && m.part < m.parts && m.parts <= maxParts
}

// assembler puts blocks together from their parts. Parts may come more than once,
// and those of several nodes may be mixed.
type assembler map[nodeID]*assembly

type assembly struct {
	block, parts uint64
	next         uint64 // the part that must follow
	data         []byte
	seq          uint64 // of the newest part
}

// abandonedAfter is after how many messages the rest of a block counts as lost.
const abandonedAfter = 100_000

// add returns a whole block, and false if parts of it are missing.
func (a assembler) add(seq uint64, m message) ([]byte, bool) {
	if m.parts == 1 {
		delete(a, m.node)
		return m.data, true
	}
	for node, other := range a {
		if seq-other.seq > abandonedAfter {
			delete(a, node)
		}
	}
	s := a[m.node]
	if s == nil || s.block != m.block || s.parts != m.parts {
		s = &assembly{block: m.block, parts: m.parts}
		a[m.node] = s
	}
	s.seq = seq
	if m.part != s.next {
		return nil, false
	}
	s.data = append(s.data, m.data...)
	if s.next++; s.next < s.parts {
		return nil, false
	}
	delete(a, m.node)
	return s.data, true
}
