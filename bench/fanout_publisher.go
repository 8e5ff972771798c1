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

// publisher publishes numbered events on one connection, if the server keeps it.
type publisher struct {
	job      *clientsJob
	book     *book
	received func() int64 // events that clients have received
	conn     net.Conn
	in       *bufio.Reader
	number   []byte        // the mark's number in job.Publish.Request
	next     atomic.Uint32 // the next event's number
	acks     histogram     // of events whose latency counts
	lost     int64         // events that the window no longer waits for
}

func connectPublisher(job *clientsJob, b *book, received func() int64) (*publisher, error) {
	at := bytes.LastIndexByte(job.Publish.Request, markStart)
	if at < 0 {
		return nil, errors.New("the request has no mark")
	}
	p := &publisher{
		job: job, book: b, received: received,
		number: job.Publish.Request[at+1 : at+markLen],
	}
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
			if !p.waitForRoom(ctx) {
				return nil
			}
			due = time.Now()
		}
		if err := p.publish(due); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return nil
}

// waitForRoom waits until the clients have all but a window of the events. If they
// receive nothing for half a second, it counts what is missing as lost.
func (p *publisher) waitForRoom(ctx context.Context) bool {
	streams := int64(p.job.Streams)
	last, since := int64(-1), time.Now()
	for ctx.Err() == nil {
		received := p.received() + p.lost
		want := streams * (int64(p.next.Load()) - int64(p.job.Window))
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

func (p *publisher) publish(due time.Time) error {
	n := p.next.Load()
	if n >= maxEvents {
		return fmt.Errorf("more than %d events", maxEvents)
	}
	copy(p.number, fmt.Sprintf("%08x", n))
	p.book.sent[n].Store(int64(due.Sub(p.book.began)))
	p.next.Add(1)
	started := time.Now()
	if _, err := p.conn.Write(p.job.Publish.Request); err != nil {
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
