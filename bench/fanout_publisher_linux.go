package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// publishRequest says how to publish an event.
type publishRequest struct {
	Address string
	Request []byte // a whole HTTP/1.1 request whose body has a mark
}

// newPublishRequest returns a POST request. header alternates names and values.
func newPublishRequest(address, target, body string, header ...string) publishRequest {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", target, address, len(body))
	for i := 0; i < len(header); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", header[i], header[i+1])
	}
	b.WriteString("\r\n" + body)
	return publishRequest{address, b.Bytes()}
}

// number returns the digits of the request's number, which the caller may change.
func (r publishRequest) number() ([]byte, error) {
	at := bytes.LastIndexByte(r.Request, markStart)
	if at < 0 || at+markLen > len(r.Request) {
		return nil, errors.New("the request has no mark")
	}
	return r.Request[at+1 : at+markLen], nil
}

// publisher publishes numbered events on one connection, if the server keeps it.
type publisher struct {
	job      *clientsJob
	book     *book
	received func() int64 // events that clients have received
	conn     net.Conn
	in       *bufio.Reader
	next     atomic.Uint32 // the next event's number
	acks     histogram     // of events whose latency counts
	lost     int64         // events that the window no longer waits for
}

func connectPublisher(job *clientsJob, b *book, received func() int64) (*publisher, error) {
	p := &publisher{job: job, book: b, received: received}
	p.next.Store(1)
	return p, p.connect()
}

func (p *publisher) connect() (err error) {
	if p.conn, err = net.Dial("tcp", p.job.Publish.Address); err == nil {
		p.in = bufio.NewReader(p.conn)
	}
	return err
}

// run publishes until the context ends.
func (p *publisher) run(ctx context.Context) error {
	defer func() { p.conn.Close() }()
	due := time.Now()
	for ctx.Err() == nil {
		if p.job.Rate > 0 {
			due = due.Add(time.Duration(float64(time.Second) / p.job.Rate))
			if pause(ctx, time.Until(due)) != nil {
				return nil
			}
		} else {
			if !p.waitForRoom(ctx, p.job.Window) {
				return nil
			}
			due = time.Now()
		}
		if err := p.publish(p.job.Publish, due); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return nil
}

// fill publishes the job's large events.
func (p *publisher) fill(ctx context.Context) error {
	const window = 4
	for range p.job.Fills {
		if !p.waitForRoom(ctx, window) {
			return context.Cause(ctx)
		}
		if err := p.publish(p.job.Fill, time.Now()); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return nil
}

// waitForRoom waits until the clients have all but a window of the events. If they
// receive nothing for half a second, it counts what is missing as lost.
func (p *publisher) waitForRoom(ctx context.Context, window int) bool {
	streams := int64(p.job.Streams)
	last, since := int64(-1), time.Now()
	for ctx.Err() == nil {
		received := p.received() + p.lost
		want := streams * (int64(p.next.Load()) - int64(window))
		if received >= want {
			return true
		}
		if received > last {
			last, since = received, time.Now()
		} else if time.Since(since) > 500*time.Millisecond {
			p.lost += want - received
		}
		time.Sleep(200 * time.Microsecond)
	}
	return false
}

func (p *publisher) publish(request publishRequest, due time.Time) error {
	n := p.next.Load()
	number, err := request.number()
	if err != nil {
		return err
	}
	if n >= maxEvents {
		return fmt.Errorf("more than %d events", maxEvents)
	}
	copy(number, fmt.Sprintf("%08x", n))
	p.book.sent[n].Store(int64(due.Sub(p.book.began)))
	p.next.Add(1)
	started := time.Now()
	if _, err := p.conn.Write(request.Request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if n >= p.book.from.Load() {
		p.acks.add(time.Since(started))
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if resp.Close { // Pushpin keeps no connection
		p.conn.Close()
		return p.connect()
	}
	return nil
}
