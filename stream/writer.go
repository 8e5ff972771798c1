package stream

import (
	"runtime"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
)

// writers serve the connections that streams have taken over. They run while
// there are any.
var writers struct {
	mu    sync.Mutex
	conns int
	all   []*writer // one for each core; empty while there are no connections
	next  int       // round robin
}

// writer is a goroutine that calls the steps of its streams.
type writer struct {
	kick chan struct{} // receives when the queue isn't empty; closed to end the goroutine

	mu    sync.Mutex
	queue []*taken // woken streams

	latest *batch // that a stream has read in this round
}

// acquireWriter returns a writer for one more connection.
func acquireWriter() *writer {
	writers.mu.Lock()
	defer writers.mu.Unlock()
	if writers.conns == 0 {
		for range runtime.GOMAXPROCS(0) {
			w := &writer{kick: make(chan struct{}, 1)}
			writers.all = append(writers.all, w)
			go w.run(w.kick)
		}
	}
	writers.conns++
	writers.next++
	return writers.all[writers.next%len(writers.all)]
}

// release gives up the writer for one connection. The last one ends the writers.
func (w *writer) release() {
	writers.mu.Lock()
	defer writers.mu.Unlock()
	if writers.conns--; writers.conns > 0 {
		return
	}
	for _, w := range writers.all {
		w.mu.Lock()
		close(w.kick)
		w.kick = nil
		w.mu.Unlock()
	}
	writers.all = nil
}

// push makes the writer serve a stream. It is safe for concurrent use.
func (w *writer) push(t *taken) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue = append(w.queue, t); len(w.queue) > 1 || w.kick == nil {
		return
	}
	select {
	case w.kick <- struct{}{}:
	default: // it has not received the last one yet
	}
}

// run serves streams until kick is closed.
func (w *writer) run(kick <-chan struct{}) {
	var woken []*taken
	for range kick {
		for {
			w.mu.Lock()
			woken, w.queue = w.queue, woken[:0]
			w.mu.Unlock()
			if len(woken) == 0 {
				break
			}
			now := time.Now()
			for i, t := range woken {
				woken[i] = nil
				t.queued.Store(false)
				t.serve(now)
			}
		}
		w.latest = nil
	}
}

// read reads a cursor, or shares what the stream before has read.
func (w *writer) read(c *hub.Cursor) (*batch, error) {
	if w.latest != nil && c.Share(w.latest.Reading) {
		return w.latest, nil
	}
	r, err := c.Read(maxBatchBytes)
	if err != nil {
		return nil, err
	}
	w.latest = &batch{Reading: r}
	return w.latest, nil
}
