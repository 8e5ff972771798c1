package poll

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// errMemory is the error of a poll whose document doesn't fit into max_memory.
var errMemory = errors.New("max_memory is reached, the document doesn't fit: raise it, or have more viewers share")

// memory bounds the bytes that the views of a rule keep of their documents. It is
// safe for concurrent use.
type memory struct {
	max int64

	mu   sync.Mutex
	used int64
}

// replace takes bytes in place of those that a view has had. It takes none and
// returns false if that is more than before, and beyond the bound.
func (m *memory) replace(before, now int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if used := m.used - before + now; now <= before || used <= m.max {
		m.used = used
		return true
	}
	return false
}

func (m *memory) isFull() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used >= m.max
}

// keptBytes returns what the view keeps of a document and of the response that
// brought it. An event of one line shares its bytes with the document, and with
// a body that is equal to it.
func (v *view) keptBytes(doc *document, body []byte) int64 {
	kept := doc.event().Size() + event.MaxIDLen
	if bytes.ContainsAny(doc.text, "\r\n") {
		kept += len(doc.text)
	}
	for _, frame := range doc.first {
		kept += len(frame) + event.MaxIDLen
	}
	if before := v.state.doc; before != nil && before.equal(doc) && v.poller.config.isShaped() {
		for _, e := range v.state.first {
			kept += len(e.Frame)
		}
	}
	if v.poller.config.Absorb && !bytes.Equal(body, doc.text) {
		kept += len(body)
	}
	return int64(kept)
}

// keep counts what the view is about to keep for the rule's max_memory, in place
// of what it keeps now. It returns false if that doesn't fit. Only the loop calls
// it.
func (l *pollLoop) keep(bytes int64) bool {
	if !l.view.poller.memory.replace(l.kept, bytes) {
		return false
	}
	l.kept = bytes
	return true
}

// exceed handles a document that doesn't fit: a new view ends with a refusal, and
// in any other view the poll has failed.
func (l *pollLoop) exceed(first bool) outcome {
	if !first {
		return l.view.publisher.publishStale(http.StatusServiceUnavailable, errMemory)
	}
	l.view.state.fail(l.view.poller.refuseMemory(), nil)
	return ended
}

// refuseMemory returns the refusal of a view beyond max_memory.
func (p *Poller) refuseMemory() error {
	p.warnMaxMemory.Do(func() {
		p.log.Warn("max_memory is reached, new documents are refused: raise it, or have more viewers share", zap.Int64("max_memory", p.config.MaxMemory))
	})
	return &refusal.Error{
		Status:     http.StatusServiceUnavailable,
		Kind:       refusal.MaxMemory,
		Reason:     "the documents that are polled take too much memory; try again later",
		RetryAfter: 5 * time.Second,
	}
}

// maxWork is how many bytes of documents are worked on at a time.
func maxWork(c *Config) int64 { return 2 * c.MaxBody }

// smallDocument is the size below which a document needs no permit.
const smallDocument = 64 << 10

// beginWork waits for the permit to work on a response: reading and comparing a
// document takes several times its size, and only so many bytes of documents are
// worked on at a time as two of the largest have. The poll holds its slot until
// then, so that few responses wait. Package budget bounds the memory that programs
// and selectors take beyond that.
func (l *pollLoop) beginWork(resp *subrequest.Response) error {
	l.endWork() // on the response to an earlier principal
	size := int64(len(resp.Body))
	if size < smallDocument {
		return nil
	}
	permit := min(size, l.view.poller.config.MaxBody)
	ctx, cancel := l.whileWanted()
	defer cancel()
	if err := l.view.poller.work.Acquire(ctx, permit); err != nil {
		return err
	}
	l.permit = permit
	return nil
}

func (l *pollLoop) endWork() {
	if l.permit > 0 {
		l.view.poller.work.Release(l.permit)
		l.permit = 0
	}
}
