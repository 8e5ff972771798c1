package stream

import (
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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
	poller  *poller
	kick    chan struct{} // receives when the queue isn't empty; closed to end the goroutine
	scratch [4 << 10]byte // for what clients send

	mu    sync.Mutex
	queue []*taken // woken streams

	latest *batch // that a stream has read in this round
}

// acquireWriter returns a writer for one more connection. It fails if the system
// has no room for a poller.
func acquireWriter() (*writer, error) {
	writers.mu.Lock()
	defer writers.mu.Unlock()
	if writers.conns == 0 {
		if err := startWritersLocked(); err != nil {
			return nil, err
		}
	}
	writers.conns++
	writers.next++
	return writers.all[writers.next%len(writers.all)], nil
}

func startWritersLocked() error {
	p, err := newPoller()
	if err != nil {
		return err
	}
	go p.run()
	for range runtime.GOMAXPROCS(0) {
		w := &writer{poller: p, kick: make(chan struct{}, 1)}
		writers.all = append(writers.all, w)
		go w.run(w.kick)
	}
	return nil
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
	w.poller.stop()
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

// poller tells streams when their clients have room again, have sent something, or
// have left.
type poller struct {
	epoll, event int // file descriptors; event ends run

	mu    sync.Mutex
	taken map[int32]*taken
	last  int32 // the newest id
}

func newPoller() (*poller, error) {
	p := &poller{taken: make(map[int32]*taken)}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.event, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() {
	_ = unix.Close(p.epoll)
	if p.event > 0 {
		_ = unix.Close(p.event)
	}
}

// stop ends run.
func (p *poller) stop() {
	_, _ = unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it can't fail: the counter is zero
}

// add makes the poller watch a connection. The ids begin with 1: 0 is event.
func (p *poller) add(t *taken) error {
	p.mu.Lock()
	for ok := true; ok; _, ok = p.taken[p.last] {
		p.last = max(p.last+1, 1) // it may overflow
	}
	t.id = p.last
	p.taken[t.id] = t
	p.mu.Unlock()
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, t.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff,
		Fd:     t.id,
	})
}

// remove forgets a connection. Its close removes it from epoll.
func (p *poller) remove(t *taken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, t.id)
}

func (p *poller) run() {
	defer p.close()
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err == syscall.EINTR {
			continue
		}
		if err != nil { // impossible: the descriptor is open
			panic(err)
		}
		for _, e := range events[:n] {
			if e.Fd == 0 {
				return
			}
			p.notify(&e)
		}
	}
}

func (p *poller) notify(e *unix.EpollEvent) {
	p.mu.Lock()
	t := p.taken[e.Fd]
	p.mu.Unlock()
	if t == nil {
		return
	}
	if e.Events&^unix.EPOLLOUT != 0 {
		t.input.Store(true)
	}
	t.wake()
}
