package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// floorWord is the argument that makes this program the floor server. The
// address to listen on follows.
const floorWord = "fanout-floor"

// floor is the least that fan-out over HTTP/1.1 can do: each event is framed once,
// and a thread per core writes what is new to its streams, all that is new in one
// write. It has no topics, heartbeats, limits or history for clients that return.
type floor struct {
	mu      sync.Mutex   // for publishers
	ring    []byte       // the newest events' bytes
	end     atomic.Int64 // of all events' bytes
	number  int          // of the last event
	writers []*floorWriter
	turn    atomic.Int64
}

const floorRing = 16 << 20

// floorWriter is the thread of one core, with its streams.
type floorWriter struct {
	floor       *floor
	epoll, wake int
	mu          sync.Mutex
	added       []*floorStream
	streams     []*floorStream
}

type floorStream struct {
	fd      int
	index   int   // in streams
	next    int64 // the first byte that is not written
	blocked bool  // the socket's buffer is full
}

// runFloor serves until its standard input ends.
func runFloor(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	f := &floor{ring: make([]byte, floorRing)}
	for range runtime.NumCPU() {
		w, err := newFloorWriter(f)
		if err != nil {
			return err
		}
		f.writers = append(f.writers, w)
		go w.run()
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(conn.(*net.TCPConn))
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// serve serves a publisher's requests, or hands a stream to a writer.
func (f *floor) serve(conn *net.TCPConn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if req.Method == http.MethodGet {
			_ = f.adopt(conn)
			return
		}
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		f.publish(data)
		if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
			return
		}
	}
}

// adopt gives a copy of the connection's descriptor to a writer, so that Go's
// poller forgets the connection.
func (f *floor) adopt(conn *net.TCPConn) error {
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n"); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var fd int
	err2 := raw.Control(func(original uintptr) { fd, err = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	w := f.writers[int(f.turn.Add(1))%len(f.writers)]
	w.mu.Lock()
	w.added = append(w.added, &floorStream{fd: fd, next: f.end.Load()})
	w.mu.Unlock()
	return w.notify()
}

func (f *floor) publish(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	event := fmt.Appendf(nil, "id: %d\ndata: %s\n\n", f.number, data)
	end := f.end.Load()
	n := copy(f.ring[end%floorRing:], event)
	copy(f.ring, event[n:])
	f.end.Store(end + int64(len(event)))
	for _, w := range f.writers {
		_ = w.notify() // the counter can't overflow
	}
}

func newFloorWriter(f *floor) (*floorWriter, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &floorWriter{floor: f, epoll: epoll, wake: wake}
	return w, unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
}

func (w *floorWriter) notify() error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, err := unix.Write(w.wake, one[:])
	return err
}

func (w *floorWriter) run() {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 256)
	var counter [8]byte
	byFD := make(map[int32]*floorStream)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		woken := false
		for _, event := range events[:max(0, n)] {
			if event.Fd < 0 {
				_, _ = unix.Read(w.wake, counter[:])
				woken = true
			} else if s := byFD[event.Fd]; s != nil {
				w.ready(s, event.Events, byFD)
			}
		}
		if !woken {
			continue
		}
		w.take(byFD)
		for i := len(w.streams) - 1; i >= 0; i-- {
			if s := w.streams[i]; !s.blocked && !w.write(s) {
				w.drop(s, byFD)
			}
		}
	}
}

// take takes over new streams.
func (w *floorWriter) take(byFD map[int32]*floorStream) {
	w.mu.Lock()
	added := w.added
	w.added = nil
	w.mu.Unlock()
	for _, s := range added {
		s.index = len(w.streams)
		w.streams = append(w.streams, s)
		byFD[int32(s.fd)] = s
		_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: int32(s.fd)})
	}
}

// ready continues a stream whose socket has room, and drops one whose client has
// left.
func (w *floorWriter) ready(s *floorStream, events uint32, byFD map[int32]*floorStream) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		w.drop(s, byFD)
		return
	}
	s.blocked = false
	_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_MOD, s.fd, &unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: int32(s.fd)})
	if !w.write(s) {
		w.drop(s, byFD)
	}
}

// write writes all that is new, and returns whether the stream goes on.
func (w *floorWriter) write(s *floorStream) bool {
	for {
		end := w.floor.end.Load()
		if s.next == end {
			return true
		}
		if end-s.next > floorRing-1<<20 { // soon overwritten
			return false
		}
		from := s.next % floorRing
		n, err := unix.Write(s.fd, w.floor.ring[from:min(floorRing, from+end-s.next)])
		switch {
		case errors.Is(err, unix.EAGAIN):
			s.blocked = true
			return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_MOD, s.fd, &unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLOUT, Fd: int32(s.fd)}) == nil
		case err != nil:
			return false
		}
		s.next += int64(n)
	}
}

func (w *floorWriter) drop(s *floorStream, byFD map[int32]*floorStream) {
	last := w.streams[len(w.streams)-1]
	w.streams[s.index], last.index = last, s.index
	w.streams = w.streams[:len(w.streams)-1]
	delete(byFD, int32(s.fd))
	unix.Close(s.fd)
}
