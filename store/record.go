package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/wire"
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
	b = wire.AppendTime(b, e.Time)
	b = wire.AppendText(b, e.ID)
	b = binary.AppendUvarint(b, uint64(len(e.Topics)))
	for _, t := range e.Topics {
		b = wire.AppendText(b, t)
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
	p := wire.Reader{Rest: record[checksumBytes:]}
	e = &Entry{Seq: seq, Given: p.Byte() == 1, Time: p.Time(), ID: p.Text()}
	for n := p.Count(); n > 0; n-- {
		e.Topics = append(e.Topics, p.Text())
	}
	length := p.Number()
	head := record[checksumBytes : len(record)-len(p.Rest)]
	if p.Failed || length != uint64(len(p.Rest)) || crc32.Checksum(head, castagnoli) != binary.BigEndian.Uint32(record) {
		return nil, nil, ErrDamaged
	}
	return e, p.Rest, nil
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

// AppendIdempotencyRecord appends the encoding of a record.
func AppendIdempotencyRecord(b []byte, r *IdempotencyRecord) []byte {
	b = append(b, make([]byte, 4)...)
	b = append(b, r.Key[:]...)
	b = wire.AppendTime(b, r.Time)
	b = wire.AppendText(b, r.Scope)
	b = wire.AppendText(b, r.Outcome)
	b = binary.AppendUvarint(b, uint64(r.Window.MaxCount))
	b = binary.AppendUvarint(b, uint64(r.Window.MaxAge))
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// ParseIdempotencyRecord decodes what [AppendIdempotencyRecord] has appended to an
// empty slice. It fails with [ErrDamaged].
func ParseIdempotencyRecord(record []byte) (*IdempotencyRecord, error) {
	if len(record) < 4 || crc32.Checksum(record[4:], castagnoli) != binary.BigEndian.Uint32(record) {
		return nil, ErrDamaged
	}
	p := wire.Reader{Rest: record[4:]}
	r := new(IdempotencyRecord)
	copy(r.Key[:], p.Bytes(uint64(len(r.Key))))
	r.Time, r.Scope, r.Outcome = p.Time(), p.Text(), p.Text()
	r.Window = Window{MaxCount: int(p.Number()), MaxAge: time.Duration(p.Number())}
	if p.Failed || len(p.Rest) > 0 {
		return nil, ErrDamaged
	}
	return r, nil
}
