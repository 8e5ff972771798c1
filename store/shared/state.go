package shared

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// state is what the messages of a log amount to. It depends on nothing else, so that
// all nodes have the same state after the same message. The copy of the log is not
// part of it: nodes may keep more or less history.
//
// A block of proposals says which messages its node knew. The node has compared the
// proposals with its copy of these; the state compares them with the messages in
// between, by the window. A block that was made too long ago has no effect, and its
// node proposes anew.
type state struct {
	outcome func(first uint64, entries []*store.Entry) string

	ready   bool // the log's messages are known from a beginning
	epoch   string
	secret  []byte
	head    uint64 // the position of the newest event
	applied uint64 // the number of the newest message
	newest  time.Time
	window  *window
	nodes   map[nodeID]lastBlock
	parts   assembler

	chains [1 << 12]struct {
		seq   uint64
		chain chain
	}
	// scarred means that the log lost messages that somebody has seen: a new
	// epoch must begin.
	scarred bool

	mirror *store.Memory

	// since counts the bytes of messages since the newest checkpoint.
	since       int64
	checkpoints []checkpoint
}

// lastBlock is the number of a node's newest block, and of its message.
type lastBlock struct{ block, seq uint64 }

// maxNodes bounds the nodes that a state remembers.
const maxNodes = 1 << 10

func newState(outcome func(uint64, []*store.Entry) string) *state {
	return &state{
		outcome: outcome,
		window:  newWindow(0),
		nodes:   make(map[nodeID]lastBlock),
		parts:   make(assembler),
	}
}

// effect is what a message has changed.
type effect struct {
	node  nodeID
	block uint64 // zero if the message completed no block
	// decided are the block's proposals with their results. It is nil if the
	// block has no effect.
	decided  []*store.Proposal
	entries  []*store.Entry
	newEpoch bool
}

// apply applies the message after the newest one. It returns false if the message is
// none of this version.
func (s *state) apply(seq uint64, data []byte) (e effect, ok bool) {
	m, ok := decodeMessage(data)
	if !ok {
		return e, false
	}
	s.applied = seq
	s.link(seq, data)
	s.since += int64(len(data))
	last := s.nodes[m.node]
	if m.block <= last.block {
		return e, true // sent twice
	}
	block, whole := s.parts.add(seq, m)
	if !whole {
		return e, true
	}
	s.remember(m.node, lastBlock{m.block, seq})
	e.node, e.block = m.node, m.block
	if len(block) == 0 {
		return e, true
	}
	switch kind, rest := block[0], block[1:]; kind {
	case kindProposals:
		if p, ok := decodeProposals(rest); ok {
			s.applyProposals(p, &e)
		}
	case kindEpoch:
		if n, ok := decodeEpoch(rest); ok {
			e.newEpoch = s.applyEpoch(n)
		}
	case kindCheckpoint:
		if c, ok := decodeCheckpoint(rest); ok && c.epoch == s.epoch && c.base <= seq {
			s.checkpoints = append(s.checkpoints, checkpoint{c.base, c.head, len(block), s.newest})
			s.since = 0
		}
	}
	return e, true
}

// link adds a message to the chain.
func (s *state) link(seq uint64, data []byte) {
	s.setChain(seq, s.chainOf(seq, data))
}

// chainOf returns the chain at a message.
func (s *state) chainOf(seq uint64, data []byte) chain {
	before := s.chainAt(seq - 1)
	h := sha256.New()
	h.Write(before[:])
	h.Write(data)
	return chain(h.Sum(nil)[:len(chain{})])
}

// isNewest reports whether a message can be the newest that the state has applied.
func (s *state) isNewest(seq uint64, data []byte) bool {
	if seq > 1 && s.chainAt(seq-1) == (chain{}) {
		return true // unknown
	}
	return s.chainOf(seq, data) == s.chainAt(seq)
}

func (s *state) setChain(seq uint64, c chain) {
	at := &s.chains[seq%uint64(len(s.chains))]
	at.seq, at.chain = seq, c
}

// chainAt returns the chain at a message, zero if it is too old.
func (s *state) chainAt(seq uint64) chain {
	if at := s.chains[seq%uint64(len(s.chains))]; at.seq == seq {
		return at.chain
	}
	return chain{}
}

// remember records a node's newest block. It forgets the node that was silent for
// longest if there are too many.
func (s *state) remember(node nodeID, last lastBlock) {
	s.nodes[node] = last
	if len(s.nodes) <= maxNodes {
		return
	}
	oldest := node
	for n, l := range s.nodes {
		if l.seq < s.nodes[oldest].seq {
			oldest = n
		}
	}
	delete(s.nodes, oldest)
}

func (s *state) applyEpoch(n *newEpoch) bool {
	if n.replaces != s.epoch && n.replaces != anyEpoch {
		return false
	}
	s.ready, s.scarred = true, false
	s.epoch, s.secret = n.epoch, n.secret
	s.head = max(s.head, n.head)
	s.window = newWindow(s.applied)
	s.mirror = store.NewMirror(s.epoch, s.secret, s.head)
	s.checkpoints = nil
	return true
}

func (s *state) applyProposals(p *proposals, e *effect) {
	if !s.ready || p.epoch != s.epoch {
		return
	}
	if known := s.chainAt(p.base); p.base >= s.applied || known != p.chain && known != (chain{}) {
		s.scarred = true
		return
	}
	if p.base < s.window.floor {
		return
	}
	s.newest = p.at
	var records []store.IdempotencyRecord
	for _, i := range p.items {
		s.decide(i, p.base, e)
		if i.Record != nil && !i.Duplicate {
			records = append(records, *i.Record)
		}
	}
	e.decided = p.items
	if e.decided == nil {
		e.decided = []*store.Proposal{}
	}
	_ = s.mirror.Append(e.entries, records) // never fails
}

// decide sets the results of a proposal that was compared with the log up to base.
func (s *state) decide(p *store.Proposal, base uint64, e *effect) {
	key := scopedKey{}
	if p.Record != nil {
		key = scopedKey{p.Record.Scope, p.Record.Key}
		if before, ok := s.window.key(key, base); ok {
			p.Duplicate, p.Outcome = true, before.outcome
			return
		}
	}
	first := s.head + 1
	for i := range p.Events {
		s.decideEvent(&p.Events[i], base, p.Record != nil, e)
	}
	if p.Record == nil {
		return
	}
	entries := make([]*store.Entry, len(p.Events))
	for i := range p.Events {
		entries[i] = p.Events[i].Entry
	}
	p.Record.Time = s.newest
	p.Record.Outcome = s.outcome(first, entries)
	s.window.add(windowItem{seq: s.applied, key: key, outcome: p.Record.Outcome})
}

// decideEvent makes an event's entry. With a key, an event is never a duplicate.
func (s *state) decideEvent(v *store.ProposedEvent, base uint64, keyed bool, e *effect) {
	id := v.ID
	if before, ok := s.window.id(id, base); ok && id != "" {
		if !keyed && slices.Equal(before.topics, v.Topics) {
			v.Duplicate = true
			v.Entry = &store.Entry{Seq: before.position, Time: s.newest, Topics: before.topics, ID: id, Given: true}
			return
		}
		id = ""
	}
	s.head++
	entry := &store.Entry{Seq: s.head, Time: s.newest, Topics: v.Topics, ID: id, Given: id != ""}
	if id == "" {
		entry.ID = s.epoch + "-" + strconv.FormatUint(s.head, 10)
	} else {
		s.window.add(windowItem{seq: s.applied, id: id, topics: v.Topics, position: s.head})
	}
	entry.Frame = v.Frame.WithID(entry.ID)
	v.Entry = entry
	e.entries = append(e.entries, entry)
}

// base is what a proposal of now says about the log.
func (s *state) base() (seq uint64, c chain) { return s.applied, s.chainAt(s.applied) }
