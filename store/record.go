package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// ErrDamaged means that a file does not contain what was written to it.
var ErrDamaged = errors.New("the file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An entry's record begins with two checksums, one of its head and one of its
// frame, so that opening a log reads no frames.
const checksumBytes = 8

// appendRecord appends the encoding of an entry. It omits the position, which is
// the record's key.
func appendRecord(b []byte, e *Entry) []byte {
	start := len(b)
	b = append(b, make([]byte, checksumBytes)...)
	var given byte
	if e.Given {
		given = 1
	}
	b = append(b, given)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixNano()))
	b = appendText(b, e.ID)
	b = binary.AppendUvarint(b, uint64(len(e.Topics)))
	for _, t := range e.Topics {
		b = appendText(b, t)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Frame)))
	record := b[start:]
	binary.BigEndian.PutUint32(record, crc32.Checksum(record[checksumBytes:], castagnoli))
	binary.BigEndian.PutUint32(record[4:], crc32.Checksum(e.Frame, castagnoli))
	return append(b, e.Frame...)
}

// parseHead decodes an entry without its frame. It returns the frame as a part of
// record.
func parseHead(seq uint64, record []byte) (e *Entry, frame []byte, err error) {
	if len(record) < checksumBytes {
		return nil, nil, ErrDamaged
	}
	p := parser{rest: record[checksumBytes:]}
	e = &Entry{Seq: seq, Given: p.byte() == 1, Time: p.time(), ID: p.text()}
	for n := p.count(); n > 0; n-- {
		e.Topics = append(e.Topics, p.text())
	}
	length := p.number()
	head := record[checksumBytes : len(record)-len(p.rest)]
	if p.failed || length != uint64(len(p.rest)) || crc32.Checksum(head, castagnoli) != binary.BigEndian.Uint32(record) {
		return nil, nil, ErrDamaged
	}
	return e, p.rest, nil
}

// parseRecord decodes an entry, and copies its frame.
func parseRecord(seq uint64, record []byte) (*Entry, error) {
	e, frame, err := parseHead(seq, record)
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(frame, castagnoli) != binary.BigEndian.Uint32(record[4:]) {
		return nil, ErrDamaged
	}
	e.Frame = append(e.Frame, frame...)
	return e, nil
}

func appendIdempotencyRecord(b []byte, r *IdempotencyRecord) []byte {
	b = append(b, make([]byte, 4)...)
	b = append(b, r.Key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = appendText(b, r.Scope)
	b = appendText(b, r.Outcome)
	b = binary.AppendUvarint(b, uint64(r.Window.MaxCount))
	b = binary.AppendUvarint(b, uint64(r.Window.MaxAge))
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

func parseIdempotencyRecord(record []byte) (*IdempotencyRecord, error) {
	if len(record) < 4 || crc32.Checksum(record[4:], castagnoli) != binary.BigEndian.Uint32(record) {
		return nil, ErrDamaged
	}
	p := parser{rest: record[4:]}
	r := new(IdempotencyRecord)
	copy(r.Key[:], p.bytes(uint64(len(r.Key))))
	r.Time, r.Scope, r.Outcome = p.time(), p.text(), p.text()
	r.Window = Window{MaxCount: int(p.number()), MaxAge: time.Duration(p.number())}
	if p.failed || len(p.rest) > 0 {
		return nil, ErrDamaged
	}
	return r, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parser decodes what the append functions encode. After a failure it returns zero
// values.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) bytes(n uint64) []byte {
	if p.failed || n > uint64(len(p.rest)) {
		p.failed = true
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) byte() byte {
	if b := p.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) number() uint64 {
	n, size := binary.Uvarint(p.rest)
	if p.failed || size <= 0 {
		p.failed = true
		return 0
	}
	p.rest = p.rest[size:]
	return n
}

// count decodes a number of items of at least one byte each.
func (p *parser) count() uint64 {
	n := p.number()
	if n > uint64(len(p.rest)) {
		p.failed = true
		return 0
	}
	return n
}

func (p *parser) text() string { return string(p.bytes(p.number())) }

func (p *parser) time() time.Time {
	if b := p.bytes(8); b != nil {
		return time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	}
	return time.Time{}
}
