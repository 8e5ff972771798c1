package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// clientsWord is the argument that makes this program the clients and the
// publisher of one measurement. A clientsJob in JSON follows; the program writes
// the clientsResult and ends.
const clientsWord = "fanout-clients"

// clientsJob says what the clients do and measure.
type clientsJob struct {
	Protocol      string // "h1", "h2" or "h3"
	Address       string // of the streams
	Target        string // path and query of the streams
	Streams       int
	PerConnection int
	Stalled       int // further streams, which stop reading; only for h1
	Publish       publishRequest
	Fill          publishRequest
	Fills         int     // events that Fill publishes first, so that the buffers of stalled streams are full
	Rate          float64 // events per second; 0: as many as the server takes
	Window        int     // without a rate: events that not all clients have
	Silent        bool    // publish nothing
	Settle        time.Duration
	Warmup        time.Duration
	For           time.Duration
	Server        []int // the server's processes
}

// clientsResult is the result of one measurement. Durations are in nanoseconds.
type clientsResult struct {
	Opening      time.Duration `json:"opening"`        // of all streams
	BytesPerIdle float64       `json:"bytes_per_idle"` // of the server's memory per stream

	Elapsed    time.Duration `json:"elapsed"`
	Deliveries int64         `json:"deliveries"`
	ServerCPU  time.Duration `json:"server_cpu"`
	ClientsCPU time.Duration `json:"clients_cpu"`
	OtherCPU   time.Duration `json:"other_cpu"` // of other processes

	Published uint32        `json:"published"` // during elapsed
	Latency   []latency     `json:"latency"`
	Ack       time.Duration `json:"ack"` // median

	Missing   int64  `json:"missing"` // of all events, also before and after elapsed
	Doubled   int64  `json:"doubled"`
	Reordered int64  `json:"reordered"`
	Ended     int64  `json:"ended"`              // streams that have ended
	EndedBy   string `json:"ended_by,omitempty"` // the first one's error
}

// latency is one quantile of the time from when an event was due to be published
// until a client had it.
type latency struct {
	Quantile float64       `json:"quantile"`
	Time     time.Duration `json:"time"`
}

// latencyQuantiles are the quantiles in results.
var latencyQuantiles = []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1}

// subscribers is a set of clients.
type subscribers interface {
	// open opens the streams, and returns when the server has responded to all.
	open(ctx context.Context) error
	// recorders returns what the clients record into.
	recorders() []*recorder
}

// book records when events are published.
type book struct {
	began    time.Time
	sent     []atomic.Int64 // by number: nanoseconds from began
	from, to atomic.Uint32  // the numbers whose latency counts
}

const maxEvents = 1 << 20

func newBook() *book {
	b := &book{began: time.Now(), sent: make([]atomic.Int64, maxEvents)}
	b.from.Store(maxEvents)
	b.to.Store(maxEvents)
	return b
}

// recorder counts the events of some of the clients.
type recorder struct {
	book     *book
	received atomic.Int64 // each event once
	ended    atomic.Int64
	endedBy  atomic.Pointer[error]

	mu                 sync.Mutex
	latency            histogram
	doubled, reordered int64
}

// add counts the numbers that a stream has just received.
func (r *recorder) add(t *tally, numbers []uint32) {
	now := int64(time.Since(r.book.began))
	from, to := r.book.from.Load(), r.book.to.Load()
	var received int64
	r.mu.Lock()
	for _, n := range numbers {
		switch t.add(n) {
		case again:
			r.doubled++
			continue
		case late:
			r.reordered++
		}
		received++
		if from <= n && n < to {
			r.latency.add(time.Duration(now - r.book.sent[n].Load()))
		}
	}
	r.mu.Unlock()
	r.received.Add(received)
}

// end counts streams that end with an error.
func (r *recorder) end(streams int, err error) {
	r.ended.Add(int64(streams))
	r.endedBy.CompareAndSwap(nil, &err)
}

// measuring is one measurement in progress.
type measuring struct {
	job         *clientsJob
	book        *book
	subscribers subscribers
	result      clientsResult
}

// runClients runs one measurement.
func runClients(job string) error {
	var j clientsJob
	if err := json.Unmarshal([]byte(job), &j); err != nil {
		return err
	}
	m := &measuring{job: &j, book: newBook()}
	if err := m.run(context.Background()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m.result)
}

func (m *measuring) run(ctx context.Context) (err error) {
	if m.subscribers, err = newSubscribers(m.job, m.book); err != nil {
		return err
	}
	if err := m.open(ctx); err != nil {
		return err
	}
	if m.job.Silent {
		return nil
	}
	p, err := connectPublisher(m.job, m.book, m.received)
	if err != nil {
		return err
	}
	if err := p.fill(ctx); err != nil {
		return err
	}
	publish, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.run(publish) }()
	if err := m.span(ctx, p, ended); err != nil {
		return err
	}
	stop()
	if err := <-ended; err != nil {
		return err
	}
	m.drain(p)
	m.collect(p)
	return nil
}

// open opens the streams and measures the server's memory before and after.
func (m *measuring) open(ctx context.Context) error {
	before, err := usageOf(m.job.Server)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := m.subscribers.open(ctx); err != nil {
		return err
	}
	m.result.Opening = time.Since(started)
	if err := pause(ctx, m.job.Settle); err != nil {
		return err
	}
	after, err := usageOf(m.job.Server)
	m.result.BytesPerIdle = float64(after.rss-before.rss) / float64(m.job.Streams+m.job.Stalled)
	return err
}

// span measures for the job's time.
func (m *measuring) span(ctx context.Context, p *publisher, ended chan error) error {
	wait := func(d time.Duration) error {
		select {
		case err := <-ended:
			return errors.Join(err, errors.New("the publisher has ended"))
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(m.job.Warmup); err != nil {
		return err
	}
	from := p.next.Load()
	m.book.from.Store(from)
	started, all, received := time.Now(), busy(), m.received()
	server, err := usageOf(m.job.Server)
	if err != nil {
		return err
	}
	own, err := processUsage(os.Getpid())
	if err != nil {
		return err
	}
	if err := wait(m.job.For); err != nil {
		return err
	}
	server2, err := usageOf(m.job.Server)
	if err != nil {
		return fmt.Errorf("the server has ended: %w", err)
	}
	own2, err := processUsage(os.Getpid())
	r := &m.result
	r.Deliveries, r.Elapsed = m.received()-received, time.Since(started)
	r.ServerCPU, r.ClientsCPU = server2.cpu-server.cpu, own2.cpu-own.cpu
	r.OtherCPU = max(0, busy()-all-r.ServerCPU-r.ClientsCPU)
	m.book.to.Store(p.next.Load())
	r.Published = p.next.Load() - from
	return err
}

// received returns how many events all streams have received.
func (m *measuring) received() (n int64) {
	for _, r := range m.subscribers.recorders() {
		n += r.received.Load()
	}
	return n
}

// drain waits until all published events have come, or nothing comes any more.
func (m *measuring) drain(p *publisher) {
	const patience = 3 * time.Second
	want := int64(p.next.Load()-1) * int64(m.job.Streams)
	last, since := m.received(), time.Now()
	for last < want && time.Since(since) < patience {
		time.Sleep(10 * time.Millisecond)
		if now := m.received(); now > last {
			last, since = now, time.Now()
		}
	}
	m.result.Missing = want - last
}

// collect adds up what the clients and the publisher have recorded.
func (m *measuring) collect(p *publisher) {
	var all histogram
	for _, r := range m.subscribers.recorders() {
		r.mu.Lock()
		all.merge(&r.latency)
		m.result.Doubled += r.doubled
		m.result.Reordered += r.reordered
		m.result.Ended += r.ended.Load()
		if err := r.endedBy.Load(); err != nil {
			m.result.EndedBy = (*err).Error()
		}
		r.mu.Unlock()
	}
	for _, q := range latencyQuantiles {
		m.result.Latency = append(m.result.Latency, latency{q, all.quantile(q)})
	}
	m.result.Ack = p.acks.quantile(0.5)
}

// at returns a quantile of the latency.
func (r *clientsResult) at(quantile float64) time.Duration {
	i := slices.IndexFunc(r.Latency, func(l latency) bool { return l.Quantile == quantile })
	if i < 0 {
		return 0
	}
	return r.Latency[i].Time
}
