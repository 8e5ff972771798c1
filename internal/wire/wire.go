// Package wire encodes and decodes the fields of binary records.
package wire

import (
	"encoding/binary"
	"time"
)

// AppendText appends a text with its length.
func AppendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendTime appends a time, in nanoseconds of Unix time.
func AppendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

// Reader decodes fields in the order in which they were appended. After a failure
// it returns zero values.
type Reader struct {
	Rest   []byte // what is not read yet
	Failed bool
}

// Bytes reads n bytes. It returns them without a copy.
func (r *Reader) Bytes(n uint64) []byte {
	if r.Failed || n > uint64(len(r.Rest)) {
		r.Failed = true
		return nil
	}
	b := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return b
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if b := r.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Number reads an unsigned varint.
func (r *Reader) Number() uint64 {
	n, size := binary.Uvarint(r.Rest)
	if r.Failed || size <= 0 {
		r.Failed = true
		return 0
	}
	r.Rest = r.Rest[size:]
	return n
}

// Count reads a number of items of at least one byte each.
func (r *Reader) Count() uint64 {
	n := r.Number()
	if n > uint64(len(r.Rest)) {
		r.Failed = true
		return 0
	}
	return n
}

// Text reads what [AppendText] has appended.
func (r *Reader) Text() string { return string(r.Bytes(r.Number())) }

// Time reads what [AppendTime] has appended.
func (r *Reader) Time() time.Time {
	if b := r.Bytes(8); b != nil {
		return time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	}
	return time.Time{}
}
