package main

import (
	"context"
	"io"

	"github.com/caddy-sse/caddy-sse/internal/connection"
)

// h3Clients is HTTP/3 clients, a goroutine per stream.
type h3Clients struct {
	job  *clientsJob
	book *book
	all  []*recorder // one per connection
}

func newH3Clients(job *clientsJob, b *book) subscribers {
	c := &h3Clients{job: job, book: b}
	for range (job.Streams + job.PerConnection - 1) / job.PerConnection {
		c.all = append(c.all, &recorder{book: b})
	}
	return c
}

func (c *h3Clients) recorders() []*recorder { return c.all }

func (c *h3Clients) open(ctx context.Context) error {
	return inParallel(ctx, len(c.all), func(ctx context.Context, i int) error {
		first := i * c.job.PerConnection
		return c.connect(c.all[i], min(c.job.PerConnection, c.job.Streams-first))
	})
}

func (c *h3Clients) connect(r *recorder, streams int) error {
	conn, err := connection.QUIC(0)
	if err != nil {
		return err
	}
	_, _, h3 := protocols(0)
	for range streams {
		// The streams outlive the opening, so they don't have its context.
		body, err := openStream(context.Background(), h3, conn.Client, "https://"+c.job.Address+c.job.Target)
		if err != nil {
			return err
		}
		go func() {
			r.end(1, readNumbers(r, body))
		}()
	}
	return nil
}

// readNumbers records the events of a stream until it ends.
func readNumbers(r *recorder, body io.Reader) error {
	var marks marks
	var tally tally
	var numbers []uint32
	data := make([]byte, 4<<10)
	for {
		n, err := body.Read(data)
		if numbers = marks.find(data[:n], numbers[:0]); len(numbers) > 0 {
			r.add(&tally, numbers)
		}
		if err != nil {
			return err
		}
	}
}
