// Package gzipblock compresses texts once for many responses. A response with
// Content-Encoding gzip is one gzip member (RFC 1952). Each text in it is compressed
// alone, as a sequence of deflate blocks (RFC 1951) that refers to nothing before it
// and ends at a byte, so that its bytes fit into every response.
//
// One member for each text would be simpler, but browsers and curl read only the
// first member of a response.
package gzipblock

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/flate"
)

// MinSize is the length from which [Compress] compresses a text. Shorter JSON shrinks
// by less than a third.
const MinSize = 256

// Block is a compressed text. Nobody may change it.
type Block struct {
	data  []byte
	size  uint32 // of the text
	crc   uint32 // of the text
	shift uint32 // see shiftBy
}

// Bytes returns the compressed text. Callers must not change it.
func (b *Block) Bytes() []byte { return b.data }

// Compress returns the text as a block, or nil if that saves less than an eighth, or
// if the text is shorter than [MinSize].
//
// This package doesn't use the standard library's compressor: it clears 600 KB of
// tables before each text.
func Compress(text []byte) *Block {
	if len(text) < MinSize {
		return nil
	}
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	c.out.Reset()
	c.w.Reset(&c.out)
	_, _ = c.w.Write(text) // a bytes.Buffer never fails
	_ = c.w.Flush()
	if c.out.Len() > len(text)-len(text)/8 {
		return nil
	}
	return &Block{
		data:  bytes.Clone(c.out.Bytes()),
		size:  uint32(len(text)),
		crc:   crc32.ChecksumIEEE(text),
		shift: shiftBy(uint64(len(text))),
	}
}

type compressor struct {
	w   *flate.Writer
	out bytes.Buffer
}

var compressors = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, 6) // the usual level
	if err != nil {                   // impossible: the level is valid
		panic(err)
	}
	return &compressor{w: w}
}}

// header begins a member without a name and a time, from an unknown system.
var header = [10]byte{0x1f, 0x8b, 8, 9: 0xff}

// AppendHeader appends what begins a response.
func AppendHeader(dst []byte) []byte { return append(dst, header[:]...) }

// Stream is what a response has sent since the header. The zero value is ready to
// use.
type Stream struct{ crc, size uint32 }

// Add records that the response sends a block.
func (s *Stream) Add(b *Block) {
	s.crc = multiply(b.shift, s.crc) ^ b.crc
	s.size += b.size
}

// maxStored is the greatest length of a stored block.
const maxStored = 1<<16 - 1

// flush is an empty stored block. A decoder gives out what it has when it reads it:
// Go's would keep the text of other stored blocks until its window of 32 KiB is full.
var flush = [5]byte{3: 0xff, 4: 0xff}

// AppendStored appends a text that is not compressed, and records it.
func (s *Stream) AppendStored(dst, text []byte) []byte {
	if len(text) == 0 {
		return dst
	}
	s.crc = crc32.Update(s.crc, crc32.IEEETable, text)
	s.size += uint32(len(text))
	for len(text) > 0 {
		n := min(len(text), maxStored)
		dst = append(dst, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		dst = append(dst, text[:n]...)
		text = text[n:]
	}
	return append(dst, flush[:]...)
}

// AppendTrailer appends what ends a response, whose client can tell by it that the
// response is complete.
func (s *Stream) AppendTrailer(dst []byte) []byte {
	dst = append(dst, 1, 0, 0, 0xff, 0xff) // the last block, empty
	dst = binary.LittleEndian.AppendUint32(dst, s.crc)
	return binary.LittleEndian.AppendUint32(dst, s.size)
}

// Block returns what the stream has sent, which is data, as a block of other
// streams.
func (s *Stream) Block(data []byte) *Block {
	return &Block{data: data, size: s.size, crc: s.crc, shift: shiftBy(uint64(s.size))}
}
