package body

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// freeBytes is the part of each body that counts for no budget: 1 MiB.
const freeBytes = 1 << 20

// Budget limits how many bytes large bodies hold together. The first MiB of each
// body is free, so that small bodies never wait for large ones. It is safe for
// concurrent use.
//
// A client gets bytes only while it holds no more than are left: one client holds
// at most a half of all, two clients three quarters, and so on.
type Budget struct {
	limit int64

	mu      sync.Mutex
	held    int64
	clients map[string]int64 // what each client holds
}

// NewBudget returns a budget of so many bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit, clients: make(map[string]int64)}
}

// Hold is what one request holds of a budget. Its methods may be called on nil,
// which holds nothing and is never refused. It is not safe for concurrent use.
type Hold struct {
	budget *Budget
	client string
	limit  int64
	read   int64
	held   int64
}

// Hold begins a request of a client, whose bodies have up to maxBytes. The budget
// is at least four times maxBytes.
func (b *Budget) Hold(client string, maxBytes int64) *Hold {
	return &Hold{budget: b, client: client, limit: max(b.limit, 4*maxBytes)}
}

// Release returns what the request holds. Further calls do nothing.
func (h *Hold) Release() {
	if h == nil || h.held == 0 {
		return
	}
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= h.held
	b.clients[h.client] -= h.held
	if b.clients[h.client] == 0 {
		delete(b.clients, h.client)
	}
	h.held = 0
}

// take counts n bytes. It returns false if the budget has no room for them.
func (h *Hold) take(n int64) bool {
	h.read += n
	n = h.read - freeBytes - h.held
	if n <= 0 {
		return true
	}
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clients[h.client]+n > h.limit-b.held-n {
		return false
	}
	b.held += n
	b.clients[h.client] += n
	h.held += n
	return true
}

var errNoRoom = errors.New("the budget for large bodies has no room")

// Reader returns a reader that counts what it reads from r. Its error, if the
// budget has no room, is that of [TooMany].
func (h *Hold) Reader(r io.Reader) io.Reader {
	if h == nil {
		return r
	}
	return &countedReader{r, h}
}

type countedReader struct {
	io.Reader
	hold *Hold
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if !r.hold.take(int64(n)) {
		return 0, errNoRoom
	}
	return n, err
}

// TooMany returns the refusal of a read that has failed for want of room in the
// budget, or nil for other errors.
func TooMany(err error) *refusal.Error {
	if !errors.Is(err, errNoRoom) {
		return nil
	}
	refused := refusal.Newf(http.StatusServiceUnavailable, "there are too many large bodies at the same time; send it again later")
	refused.RetryAfter = 5 * time.Second
	refused.Err = err
	return refused
}
