package poll

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/stream"
)

// FinishedError is returned by [Poller.Subscribe] for a client that has the finished
// document, was told so by a 204, and asks again.
type FinishedError struct {
	// Topic is that of [Subscription.FinishedTopic].
	Topic string
}

func (*FinishedError) Error() string { return "the client has the finished document" }

// finishedMemory is how long a 204 is repeated without a poll. A document may be
// taken up again, by a change that passes Caddy by.
const finishedMemory = 10 * time.Minute

// maxFinished bounds the clients that [finished] remembers.
const maxFinished = 4096

// finished remembers clients that have been told by a 204 that their document is
// finished. Some clients ask again nevertheless, for ever. A write that may concern
// the document makes it forget. It is safe for concurrent use.
type finished struct {
	mu      sync.Mutex
	clients map[string]finishedClient // by finishedKey
}

type finishedClient struct {
	hostname, path, topic string

	until time.Time
}

// mayFinish reports whether a document may be finished.
func (c *Config) mayFinish() bool { return c.until != nil || c.Send == "jq" }

// finishedKey returns a digest of all that a request's response may depend on, the
// client's address included, and of the client's position. It is empty for a client
// without a position, which gets the document.
func (p *Poller) finishedKey(t *target, r *http.Request, caller Requester) string {
	position := stream.LastEventID(r)
	if position == "" || !p.config.mayFinish() {
		return ""
	}
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	parts := []string{"finished", t.private, position, caller.ClientIP(), remote}
	for _, name := range slices.Sorted(maps.Keys(varyCandidates)) {
		parts = appendCounted(parts, name, t.header[name]...)
	}
	return p.hub.Digest(parts...)
}

// knows returns the document's topic if the client has been told, and otherwise
// the empty string.
func (f *finished) knows(key string) (topic string) {
	if key == "" {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	client := f.clients[key]
	if !time.Now().Before(client.until) {
		return ""
	}
	return client.topic
}

// add remembers a client that is told. If there are too many, it forgets some other.
func (f *finished) add(key string, t *target, topic string) {
	if key == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clients == nil {
		f.clients = make(map[string]finishedClient)
	}
	if len(f.clients) >= maxFinished {
		f.dropLocked(func(c finishedClient) bool { return !time.Now().Before(c.until) })
	}
	for other := range f.clients {
		if len(f.clients) < maxFinished {
			break
		}
		delete(f.clients, other)
	}
	f.clients[key] = finishedClient{t.hostname, t.path, topic, time.Now().Add(finishedMemory)}
}

// forget drops the clients of documents that a write to the paths may have changed:
// as for views, those of the paths, their parents and their children. If all is set,
// it drops those of the whole host.
func (f *finished) forget(hostname string, paths []string, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(func(c finishedClient) bool {
		if c.hostname != hostname || all {
			return c.hostname == hostname
		}
		for _, path := range paths {
			if within(path, c.path) || path != "/" && within(c.path, path) {
				return true
			}
		}
		return false
	})
}

func (f *finished) dropLocked(gone func(finishedClient) bool) {
	for key, client := range f.clients {
		if gone(client) {
			delete(f.clients, key)
		}
	}
}
