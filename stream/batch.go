package stream

import (
	"strconv"

	"github.com/caddy-sse/caddy-sse/hub"
)

// batch is what streams at one position send. They share its bytes.
type batch struct {
	*hub.Reading
	chunk   []byte // with the framing of a chunk; nil until it is needed
	payload []byte // a part of chunk
}

// bytes returns the frames of the batch, and the same as a chunk (RFC 9112 §7.1).
// Callers must not change them.
func (b *batch) bytes() (payload, chunk []byte) {
	if b.chunk == nil {
		size := 0
		for _, e := range b.Entries() {
			size += len(e.Frame)
		}
		chunk := appendChunkSize(make([]byte, 0, size+maxChunkFraming), size)
		begin := len(chunk)
		for _, e := range b.Entries() {
			chunk = append(chunk, e.Frame...)
		}
		b.payload = chunk[begin:len(chunk):len(chunk)]
		b.chunk = append(chunk, '\r', '\n')
	}
	return b.payload, b.chunk
}

// maxChunkFraming is the room that a chunk needs beside its data.
const maxChunkFraming = 16 + len("\r\n\r\n")

// lastChunk ends a chunked body.
var lastChunk = []byte("0\r\n\r\n")

func appendChunkSize(b []byte, size int) []byte {
	b = strconv.AppendUint(b, uint64(size), 16)
	return append(b, '\r', '\n')
}

// appendChunk appends data as a chunk to b.
func appendChunk(b, data []byte) []byte {
	b = appendChunkSize(b, len(data))
	b = append(b, data...)
	return append(b, '\r', '\n')
}
