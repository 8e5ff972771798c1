package poll

import (
	"io"
	"sync"
)

// rewinding is a body that begins again once it was read to its end: if a handler
// sends the request once more, as handle_response may with what the first response
// has said, the body is there again. The transport of the first request may close
// it after the second one has begun to read.
type rewinding struct {
	content []byte

	mu     sync.Mutex
	at     int
	ended  bool // the reader was told of the end; whoever reads next begins again
	closes int  // of readers that were told of the end, and have not closed it yet
}

// Read reads the content and, once, its end.
func (b *rewinding) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		b.at, b.ended = 0, false
	}
	if b.at == len(b.content) {
		b.ended = true
		b.closes++
		return 0, io.EOF
	}
	n := copy(p, b.content[b.at:])
	b.at += n
	return n, nil
}

// Close makes the body begin again, if its reader hasn't read to the end.
func (b *rewinding) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closes > 0 {
		b.closes--
	} else {
		b.at = 0
	}
	return nil
}
