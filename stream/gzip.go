package stream

import (
	"net/http"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/gzipblock"
	"github.com/caddy-sse/caddy-sse/store"
)

// sendsGzip reports whether a stream with these options that answers r is compressed.
func sendsGzip(r *http.Request, o *Options) bool { return o.Gzip && acceptsGzip(r.Header) }

// appendFrame appends a frame of this stream alone to the next write. Such frames are
// short: they are not compressed.
func (s *Stream) appendFrame(f event.Frame) {
	if s.gzip == nil {
		s.buf = append(s.buf, f...)
	} else {
		s.buf = s.gzip.AppendStored(s.buf, f)
	}
}

// sendTrailer ends what a stream has sent that ends for a reason, if it is compressed
// and its client can still receive something.
func (s *Stream) sendTrailer(reason Reason) error {
	if s.gzip == nil || reason == ClientLeft || reason == WriteFailed {
		return nil
	}
	s.buf = s.gzip.AppendTrailer(s.buf)
	return s.flush()
}

// sharedBytes returns the bytes of an entry that all such streams send, and records
// that one sends them. gzip is that of the stream: nil if it isn't compressed. It
// returns false if there are none, since compression doesn't pay.
func sharedBytes(gzip *gzipblock.Stream, e *store.Entry) ([]byte, bool) {
	if gzip == nil {
		return e.Frame, true
	}
	block := e.Gzipped()
	if block == nil {
		return nil, false
	}
	gzip.Add(block)
	return block.Bytes(), true
}

// appendEntry appends an entry to dst as a stream sends it.
func appendEntry(gzip *gzipblock.Stream, dst []byte, e *store.Entry) []byte {
	if shared, ok := sharedBytes(gzip, e); ok {
		return append(dst, shared...)
	}
	return gzip.AppendStored(dst, e.Frame)
}
