package shared

import (
	"encoding/binary"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/wire"
	"github.com/caddy-sse/caddy-sse/store"
)

// The kinds of blocks.
const (
	kindProposals  = 'p'
	kindEpoch      = 'e'
	kindCheckpoint = 'c'
)

// chain identifies the messages of a log up to one of them: two logs with the same
// chain at a number have the same messages up to there.
type chain [8]byte

// proposals is a block with what a node's publishers propose.
type proposals struct {
	// epoch, base and chain say what the node knew of the log: everything up to
	// the message base. The node has compared its proposals with that.
	epoch string
	base  uint64
	chain chain
	at    time.Time
	items []*store.Proposal
}

func (p *proposals) encode() []byte {
	b := wire.AppendText([]byte{kindProposals}, p.epoch)
	b = binary.AppendUvarint(b, p.base)
	b = append(b, p.chain[:]...)
	b = wire.AppendTime(b, p.at)
	b = binary.AppendUvarint(b, uint64(len(p.items)))
	for _, i := range p.items {
		var record []byte
		if i.Record != nil {
			record = store.AppendIdempotencyRecord(nil, i.Record)
		}
		b = wire.AppendText(b, string(record))
		b = binary.AppendUvarint(b, uint64(len(i.Events)))
		for _, e := range i.Events {
			b = binary.AppendUvarint(b, uint64(len(e.Topics)))
			for _, t := range e.Topics {
				b = wire.AppendText(b, t)
			}
			b = wire.AppendText(b, e.ID)
			b = binary.AppendUvarint(b, uint64(len(e.Frame)))
			b = append(b, e.Frame...)
		}
	}
	return b
}

// decodeProposals decodes a block after its kind. The frames are parts of b.
func decodeProposals(b []byte) (*proposals, bool) {
	r := wire.Reader{Rest: b}
	p := &proposals{epoch: r.Text(), base: r.Number()}
	copy(p.chain[:], r.Bytes(uint64(len(p.chain))))
	p.at = r.Time()
	for range r.Count() {
		i := new(store.Proposal)
		if record := r.Bytes(r.Number()); len(record) > 0 {
			var err error
			if i.Record, err = store.ParseIdempotencyRecord(record); err != nil {
				return nil, false
			}
		}
		for range r.Count() {
			var e store.ProposedEvent
			for range r.Count() {
				e.Topics = append(e.Topics, r.Text())
			}
			e.ID = r.Text()
			e.Frame = event.Frame(r.Bytes(r.Number()))
			i.Events = append(i.Events, e)
		}
		p.items = append(p.items, i)
	}
	return p, !r.Failed && len(r.Rest) == 0
}

// newEpoch is a block that begins an epoch: the first of a log, or after the log
// has lost messages.
type newEpoch struct {
	// replaces is the epoch that ends. The block has no effect in another one.
	// It is empty for the first epoch of a log, and anyEpoch for every one.
	replaces string
	epoch    string
	secret   []byte
	// head is higher than every position of the epochs before.
	head uint64
}

const anyEpoch = "*"

func (e *newEpoch) encode() []byte {
	b := wire.AppendText([]byte{kindEpoch}, e.replaces)
	b = wire.AppendText(b, e.epoch)
	b = wire.AppendText(b, string(e.secret))
	return binary.AppendUvarint(b, e.head)
}

func decodeEpoch(b []byte) (*newEpoch, bool) {
	r := wire.Reader{Rest: b}
	e := &newEpoch{replaces: r.Text(), epoch: r.Text(), secret: []byte(r.Text()), head: r.Number()}
	return e, !r.Failed && len(r.Rest) == 0 && e.epoch != ""
}
