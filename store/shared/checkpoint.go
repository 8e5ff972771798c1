package shared

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/wire"
	"github.com/caddy-sse/caddy-sse/store"
)

// checkpoint is a block that holds the state after a message, so that the log can
// drop the messages up to there.
type checkpoint struct {
	base uint64 // the message
	head uint64 // the position of the newest event up to there
	size int    // of the block
	at   time.Time
}

// encodeCheckpoint encodes the state of now. There must be no part of a block.
func (s *state) encodeCheckpoint() []byte {
	c := s.chainAt(s.applied)
	b := wire.AppendText([]byte{kindCheckpoint}, s.epoch)
	b = binary.AppendUvarint(b, s.applied)
	b = append(b, c[:]...)
	b = binary.AppendUvarint(b, s.head)
	b = wire.AppendText(b, string(s.secret))
	b = wire.AppendTime(b, s.newest)
	b = binary.AppendUvarint(b, s.window.floor)
	b = binary.AppendUvarint(b, uint64(len(s.window.items)))
	for _, i := range s.window.items {
		b = appendItem(b, i)
	}
	b = binary.AppendUvarint(b, uint64(len(s.nodes)))
	for node, last := range s.nodes {
		b = append(b, node[:]...)
		b = binary.AppendUvarint(b, last.block)
		b = binary.AppendUvarint(b, last.seq)
	}
	records := s.mirror.Records()
	b = binary.AppendUvarint(b, uint64(len(records)))
	for i := range records {
		b = wire.AppendText(b, string(store.AppendIdempotencyRecord(nil, &records[i])))
	}
	return b
}

func appendItem(b []byte, i windowItem) []byte {
	b = binary.AppendUvarint(b, i.seq)
	b = wire.AppendText(b, i.id)
	if i.id == "" {
		b = wire.AppendText(b, i.key.scope)
		b = append(b, i.key.key[:]...)
		return wire.AppendText(b, i.outcome)
	}
	b = binary.AppendUvarint(b, uint64(len(i.topics)))
	for _, t := range i.topics {
		b = wire.AppendText(b, t)
	}
	return binary.AppendUvarint(b, i.position)
}

func readItem(r *wire.Reader) windowItem {
	i := windowItem{seq: r.Number(), id: r.Text()}
	if i.id == "" {
		i.key.scope = r.Text()
		copy(i.key.key[:], r.Bytes(uint64(len(i.key.key))))
		i.outcome = r.Text()
		return i
	}
	for range r.Count() {
		i.topics = append(i.topics, r.Text())
	}
	i.position = r.Number()
	return i
}

// decodedCheckpoint is the head of a checkpoint. rest is the remainder.
type decodedCheckpoint struct {
	epoch string
	base  uint64
	chain chain
	head  uint64
	rest  []byte
}

// decodeCheckpoint decodes the head of a checkpoint, after its kind.
func decodeCheckpoint(b []byte) (c decodedCheckpoint, ok bool) {
	r := wire.Reader{Rest: b}
	c.epoch, c.base = r.Text(), r.Number()
	copy(c.chain[:], r.Bytes(uint64(len(c.chain))))
	c.head, c.rest = r.Number(), r.Rest
	return c, !r.Failed
}

// restore returns the state that a checkpoint holds.
func (c *decodedCheckpoint) restore(outcome func(uint64, []*store.Entry) string) (*state, bool) {
	r := wire.Reader{Rest: c.rest}
	s := newState(outcome)
	s.ready, s.epoch, s.applied, s.head = true, c.epoch, c.base, c.head
	s.setChain(c.base, c.chain)
	s.secret = []byte(r.Text())
	s.newest = r.Time()
	s.window = newWindow(r.Number())
	for range r.Count() {
		s.window.add(readItem(&r))
	}
	for range r.Count() {
		var node nodeID
		copy(node[:], r.Bytes(uint64(len(node))))
		s.nodes[node] = lastBlock{r.Number(), r.Number()}
	}
	s.mirror = store.NewMirror(s.epoch, s.secret, s.head)
	records := make([]store.IdempotencyRecord, 0, 16)
	for range r.Count() {
		record, err := store.ParseIdempotencyRecord(r.Bytes(r.Number()))
		if err != nil {
			return nil, false
		}
		records = append(records, *record)
	}
	_ = s.mirror.Append(nil, records) // never fails
	return s, !r.Failed && len(r.Rest) == 0
}

// wantsCheckpoint reports whether a checkpoint is worth its bytes: the log has grown
// by a quarter of what the history holds, or the events since the last one are as old
// as a quarter of the history's age.
func (s *state) wantsCheckpoint(h store.History, now time.Time) bool {
	if len(s.parts) > 0 || s.scarred || s.since == 0 {
		return false
	}
	last := checkpoint{}
	if n := len(s.checkpoints); n > 0 {
		last = s.checkpoints[n-1]
	}
	tail, _ := s.mirror.Range()
	switch {
	case s.head == last.head:
		return false
	case s.since < 4*int64(last.size):
		return false
	case s.since > max(s.mirror.Bytes()/4, 64<<10):
		return true
	case h.MaxEvents > 0 && s.head-max(last.head, tail-1) > uint64(h.MaxEvents)/4:
		return true
	}
	if last.at.IsZero() {
		last.at, _ = s.mirror.Oldest()
	}
	return h.MaxAge > 0 && now.Sub(last.at) > h.MaxAge/4
}

// droppable returns the newest message up to which the log may drop all: its events
// have left the history. It forgets the checkpoints before.
func (s *state) droppable() uint64 {
	tail, _ := s.mirror.Range()
	i, _ := slices.BinarySearchFunc(s.checkpoints, tail, func(c checkpoint, tail uint64) int {
		if c.head < tail {
			return -1
		}
		return 1
	})
	if i == 0 {
		return 0
	}
	s.checkpoints = s.checkpoints[i-1:]
	return s.checkpoints[0].base
}
