package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// epollClients is HTTP/1.1 clients with a connection for each stream, which one
// thread reads. They cost less than any server.
type epollClients struct {
	job      *clientsJob
	recorder *recorder
	epoll    int
	streams  []epollStream
	opened   atomic.Int64 // streams and stalled streams that the server has responded to
	failed   atomic.Pointer[error]
}

type epollStream struct {
	fd       int
	stalled  bool
	response response
	tally    tally
}

func newEpollClients(job *clientsJob, b *book) (subscribers, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	c := &epollClients{job: job, recorder: &recorder{book: b}, epoll: epoll, streams: make([]epollStream, job.Streams+job.Stalled)}
	go c.read()
	return c, nil
}

func (c *epollClients) recorders() []*recorder { return []*recorder{c.recorder} }

func (c *epollClients) open(ctx context.Context) error {
	address, err := net.ResolveTCPAddr("tcp4", c.job.Address)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", c.job.Target, c.job.Address)
	for i := range c.streams {
		if err := c.openOne(i, to, request); err != nil {
			return err
		}
		const unanswered = atOnce
		if err := c.waitFor(ctx, i-unanswered); err != nil {
			return err
		}
	}
	return c.waitFor(ctx, len(c.streams))
}

func (c *epollClients) openOne(i int, to *unix.SockaddrInet4, request []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s := &c.streams[i]
	s.fd, s.stalled = fd, i >= c.job.Streams
	if s.stalled { // small segments keep the server's buffer small, too
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536))
	}
	if err := errors.Join(err, unix.Connect(fd, to), unix.SetNonblock(fd, true)); err != nil {
		return err
	}
	if _, err := unix.Write(fd, request); err != nil {
		return err
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: int32(i)})
}

// waitFor waits until n streams are open.
func (c *epollClients) waitFor(ctx context.Context, n int) error {
	late := time.Now().Add(30 * time.Second)
	for c.opened.Load() < int64(n) {
		if err := c.failed.Load(); err != nil {
			return *err
		}
		if time.Now().After(late) {
			return fmt.Errorf("%d of %d streams are open after 30 s", c.opened.Load(), n)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// read reads all streams until the process ends.
func (c *epollClients) read() {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 512)
	buffer := make([]byte, 64<<10)
	numbers := make([]uint32, 0, 1024)
	for {
		n, err := unix.EpollWait(c.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			c.fail(err)
			return
		}
		for _, event := range events[:max(0, n)] {
			c.readStream(&c.streams[event.Pad], int(event.Fd), buffer, numbers)
		}
	}
}

func (c *epollClients) readStream(s *epollStream, fd int, buffer []byte, numbers []uint32) {
	n, err := unix.Read(fd, buffer)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	opened := s.response.opened
	if err == nil && n == 0 {
		err = errors.New("the connection is closed")
	}
	if err == nil {
		numbers, err = s.response.read(buffer[:n], numbers)
	}
	if err != nil {
		c.end(s, opened, err)
		return
	}
	if !opened && s.response.opened {
		if s.stalled {
			_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, s.fd, nil)
		}
		c.opened.Add(1)
	}
	if len(numbers) > 0 && !s.stalled {
		c.recorder.add(&s.tally, numbers)
	}
}

// end ends a stream. Before it is open, that is an error.
func (c *epollClients) end(s *epollStream, opened bool, err error) {
	unix.Close(s.fd)
	c.recorder.end(1, err)
	if !opened {
		c.fail(err)
	}
}

func (c *epollClients) fail(err error) { c.failed.CompareAndSwap(nil, &err) }
