package stream

import (
	"strconv"

	"github.com/quic-go/quic-go/quicvarint"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/gzipblock"
)

// batch is what streams at one position send. They share its bytes.
type batch struct {
	*hub.Reading
	plain body

	gzip  body
	block *gzipblock.Block // the payload of gzip; nil until it is needed
}

// body is a part of a response's body, with the framings that streams have asked
// for. Nobody may change its bytes.
type body struct {
	payload []byte
	chunk   []byte // nil until it is needed
	data    []byte // nil until it is needed
}

// body returns the frames of the batch.
func (b *batch) body() *body {
	if b.plain.payload == nil {
		size := 0
		for _, e := range b.Entries() {
			size += len(e.Frame)
		}
		b.plain.payload = make([]byte, 0, size)
		for _, e := range b.Entries() {
			b.plain.payload = append(b.plain.payload, e.Frame...)
		}
	}
	return &b.plain
}

// gzipped returns the entries of the batch as compressed streams send them.
func (b *batch) gzipped() *body {
	if b.block == nil {
		var gzip gzipblock.Stream
		for _, e := range b.Entries() {
			b.gzip.payload = appendEntry(&gzip, b.gzip.payload, e)
		}
		b.block = gzip.Block(b.gzip.payload)
	}
	return &b.gzip
}

// asChunk returns the body as a chunk (RFC 9112 §7.1).
func (b *body) asChunk() []byte {
	if b.chunk == nil {
		const maxFraming = 16 + len("\r\n\r\n")
		chunk := strconv.AppendUint(make([]byte, 0, len(b.payload)+maxFraming), uint64(len(b.payload)), 16)
		chunk = append(chunk, '\r', '\n')
		chunk = append(chunk, b.payload...)
		b.chunk = append(chunk, '\r', '\n')
	}
	return b.chunk
}

// lastChunk ends a chunked body.
var lastChunk = []byte("0\r\n\r\n")

// asData returns the body as a DATA frame of HTTP/3 (RFC 9114 §7.2.1).
func (b *body) asData() []byte {
	if b.data == nil {
		const typeData, maxFraming = 0, 1 + 8
		data := append(make([]byte, 0, len(b.payload)+maxFraming), typeData)
		data = quicvarint.Append(data, uint64(len(b.payload)))
		b.data = append(data, b.payload...)
	}
	return b.data
}
