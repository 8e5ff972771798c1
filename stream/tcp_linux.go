package stream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TCP returns the connection of an HTTP/1.1 request, if a stream can take it over:
// a TCP or Unix connection without TLS or another wrapper, on Linux. Otherwise it
// returns nil. Nobody else may close the connection then: [Stream.Abort] ends the
// stream.
func TCP(conn net.Conn) Connection {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return tcpConnection{conn}
	default:
		return nil
	}
}

type tcpConnection struct{ net.Conn }

func (c tcpConnection) takeOver(out *response, r *http.Request) (link, error) {
	header := out.w.Header()
	if header.Get("Content-Length") != "" || header.Get("Transfer-Encoding") != "" {
		return nil, errors.New("the body isn't framed by net/http's choice")
	}
	fd, err := descriptor(c.Conn)
	if err != nil {
		return nil, err
	}
	p, err := acquirePoller()
	if err != nil {
		return nil, err
	}
	hijacked, _, err := out.control.Hijack()
	if err != nil {
		p.release()
		return nil, err
	}
	l := &tcpLink{
		conn:    c.Conn,
		fd:      fd,
		poller:  p,
		chunked: r.ProtoAtLeast(1, 1), // net/http's choice without a Content-Length
	}
	if hijacked != c.Conn {
		l.recorder, l.recorded = hijacked, out.stream.summary.Bytes
	}
	return l, nil
}

// descriptor returns the file descriptor of a connection.
func descriptor(conn net.Conn) (fd int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(descriptor uintptr) { fd = int(descriptor) })
	return fd, err
}

// tcpLink is the connection of an HTTP/1 request.
type tcpLink struct {
	conn      net.Conn
	fd        int // of conn; it stays open until close
	chunked   bool
	poller    *poller
	id        int32 // in the poller
	readBytes int   // that the client has sent after its request

	// recorder is the connection as handlers have wrapped it that record the size
	// of the body, of which they know the first bytes; nil if there are none.
	recorder net.Conn
	recorded int64
}

func (l *tcpLink) watch(t *taken) error { return l.poller.add(l, t) }

func (l *tcpLink) frame(b *body) []byte {
	if l.chunked {
		return b.asChunk()
	}
	return b.payload
}

func (l *tcpLink) write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Write(l.fd, b[written:]) })
		written += max(n, 0)
		switch {
		case err == syscall.EAGAIN:
			return written, nil
		case err != nil:
			return written, err
		}
	}
	return written, nil
}

// hasLeft reads what the client has sent.
func (l *tcpLink) hasLeft() bool {
	var dropped [1 << 10]byte
	for l.readBytes < maxInput {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Read(l.fd, dropped[:]) })
		switch {
		case err == syscall.EAGAIN:
			return false
		case n <= 0:
			return true
		}
		l.readBytes += n
	}
	// The end is behind input that is never read.
	end := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLRDHUP}}
	n, _ := unix.Poll(end, 0)
	return n > 0
}

// maxInput limits how many bytes a stream reads, and drops, of a client that sends
// more after its request. Unread bytes would make the system reset the connection
// when the stream ends, and the client might lose the last events.
const maxInput = 64 << 10

func (l *tcpLink) close(bytes int64, isCut bool) {
	defer l.poller.release()
	l.poller.remove(l)
	if l.recorder != nil {
		_, _ = sentBytes(bytes - l.recorded).WriteTo(l.recorder)
	}
	if l.chunked && !isCut {
		_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = l.conn.Write(lastChunk) // nothing can be done about errors
	}
	_ = l.conn.Close()
}

// sentBytes tells the writers around a connection how many bytes have been sent: as
// a copy does, but it writes nothing.
type sentBytes int64

// WriteTo implements [io.WriterTo].
func (n sentBytes) WriteTo(w io.Writer) (int64, error) {
	if _, ok := w.(syscall.Conn); ok { // the connection itself
		return int64(n), nil
	}
	if wrapper, ok := w.(io.ReaderFrom); ok {
		return wrapper.ReadFrom(struct {
			io.Reader
			io.WriterTo
		}{nil, n})
	}
	return int64(n), nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}

// pollers holds the poller, which runs while there are connections.
var pollers struct {
	mu    sync.Mutex
	conns int
	only  *poller
}

// acquirePoller returns the poller for one more connection. It fails if the system
// has no room for one.
func acquirePoller() (*poller, error) {
	pollers.mu.Lock()
	defer pollers.mu.Unlock()
	if pollers.conns == 0 {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		pollers.only = p
		go p.run()
	}
	pollers.conns++
	return pollers.only, nil
}

// release gives up the poller for one connection. The last one ends it.
func (p *poller) release() {
	pollers.mu.Lock()
	defer pollers.mu.Unlock()
	if pollers.conns--; pollers.conns == 0 {
		p.stop()
	}
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

// add makes the poller wake t for its connection. The ids begin with 1: 0 is event.
func (p *poller) add(l *tcpLink, t *taken) error {
	p.mu.Lock()
	for ok := true; ok; _, ok = p.taken[p.last] {
		p.last = max(p.last+1, 1) // it may overflow
	}
	l.id = p.last
	p.taken[l.id] = t
	p.mu.Unlock()
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff,
		Fd:     l.id,
	})
}

// remove forgets a connection. Its close removes it from epoll.
func (p *poller) remove(l *tcpLink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, l.id)
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
		t.wakeForInput()
	} else {
		t.wake()
	}
}
