// Package forward forwards requests to an app in the background. It retries a
// request until the app accepts it.
//
// A request to forward is an event on an internal topic of the hub that no
// client can name. The hub stores it in one step with the events that it
// publishes of the request, so it is as durable as they are. An idempotency
// record marks it as done.
package forward

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

const (
	// maxInFlight limits the concurrent attempts of a rule.
	maxInFlight = 8
	// orderPause is how long an attempt delays the next one. While the app
	// responds within this time, deliveries arrive in order.
	orderPause = 100 * time.Millisecond
	// attemptTimeout limits one attempt.
	attemptTimeout = 30 * time.Second
	// storePause is the pause after a failure of the store.
	storePause = time.Second
	// batchBytes is how much of the log the forwarder reads at a time.
	batchBytes = 1 << 20
)

// Result is the result of an attempt or of a delivery.
type Result string

// The results of attempts and deliveries.
const (
	// Delivered means that the app has accepted the delivery.
	Delivered Result = "delivered"
	// Failed means that the attempt failed and another one follows.
	Failed Result = "failed"
	// Dead means that the forwarder has given the delivery up, or that the app
	// wants no such deliveries any more (410).
	Dead Result = "dead"
	// Lost means that the delivery left the history before the app accepted it.
	Lost Result = "lost"
)

// Results are all results.
var Results = []Result{Delivered, Failed, Dead, Lost}

// Response is the response of an app.
type Response struct {
	Status int
	Header http.Header
}

// Options configure a forwarder.
type Options struct {
	// Queue identifies the deliveries of a rule: see [QueueOf].
	Queue string
	// Rule is the name of the rule in the log.
	Rule string
	// Send makes one attempt. It must return soon after its context ends.
	Send func(ctx context.Context, r *Request) (Response, error)
	// For is how long the forwarder retries a delivery before it gives it up.
	For time.Duration
	// History is how much the hub's log keeps. Its count and its age are above
	// zero.
	History store.History
	// Count counts every result. It may be nil.
	Count func(Result)
	Log   *zap.Logger
}

// Forwarder forwards the deliveries of a rule. It is safe for concurrent use.
type Forwarder struct {
	Options
	hub *hub.Hub

	stop     context.CancelFunc // no further attempt begins
	stopping context.Context
	abort    context.CancelFunc // the attempts in flight end
	attempts context.Context
	done     chan struct{} // Run has returned
	wake     chan struct{}

	mu       sync.Mutex
	pending  map[string]*pending // by id
	queue    queue               // the deliveries that aren't in flight
	inFlight int
}

// pending is a delivery that the app has not accepted yet. An attempt reads its
// request from the log.
type pending struct {
	id       string
	seq      uint64
	received time.Time
	attempts int
	due      time.Time
	accepted bool // by the app; the store doesn't know yet
	backoff  *backoff.ExponentialBackOff
}

// New returns a forwarder. [Forwarder.Run] starts it.
func New(h *hub.Hub, o Options) *Forwarder {
	if o.Count == nil {
		o.Count = func(Result) {}
	}
	f := &Forwarder{Options: o, hub: h, done: make(chan struct{}), wake: make(chan struct{}, 1), pending: make(map[string]*pending), queue: newQueue()}
	f.stopping, f.stop = context.WithCancel(context.Background())
	f.attempts, f.abort = context.WithCancel(context.Background())
	return f
}

// QueueOf returns the name of the queue of a rule's deliveries. The scope
// identifies the rule and must be the same after a restart.
func QueueOf(h *hub.Hub, scope string) string { return h.Digest("forward", scope) }

const (
	topicPrefix     = "\x00forward/"
	deadTopicPrefix = "\x00dead/"
)

// Topic returns the internal topic of the deliveries of a queue.
func Topic(queue string) string { return topicPrefix + queue }

// Queues returns the queues with deliveries or dead letters in the hub's log, and
// for each the name of the rule that received them.
func Queues(h *hub.Hub) map[string]string {
	rules := make(map[string]string)
	for _, prefix := range []string{topicPrefix, deadTopicPrefix} {
		for _, topic := range h.LoggedTopics(prefix) {
			if queue := topic[len(prefix):]; rules[queue] == "" {
				rules[queue] = ruleOf(h.Last(topic))
			}
		}
	}
	return rules
}

// ruleOf returns the name of the rule in a stored delivery or dead letter.
func ruleOf(e *store.Entry) string {
	var named struct{ Rule string }
	if e == nil || decodeFrame(e.Frame, &named) != nil {
		return ""
	}
	return named.Rule
}

// idPrefix starts the ID of each message.
const idPrefix = "forward-"

// Message returns the event that queues a request for the app.
func Message(queue string, r *Request) (hub.Message, error) {
	data, err := encode(r)
	return hub.Message{Topics: []string{Topic(queue)}, Event: event.Event{ID: idPrefix + rand.Text(), Data: data}}, err
}

// IsMessage reports whether an event ID is the ID of a [Message].
func IsMessage(id string) bool { return strings.HasPrefix(id, idPrefix) && len(id) > len(idPrefix)+20 }

// Run forwards deliveries until the forwarder is stopped, starting with the
// pending ones in order. It waits for the previous forwarder of the queue, if
// there is one.
func (f *Forwarder) Run(previous *Forwarder) {
	defer close(f.done)
	defer f.abort()
	if previous != nil { // even if this one is stopped already: the next one waits for it
		select {
		case <-previous.done:
		case <-f.attempts.Done():
			previous.abort()
			<-previous.done
		}
	}
	var attempts sync.WaitGroup
	defer attempts.Wait()
	for f.stopping.Err() == nil {
		f.forward(&attempts)
	}
}

// Stop starts no further attempt, and aborts the attempts in flight after the
// grace period. With wait it returns when all attempts have ended, or at most a
// second after it has aborted them. Otherwise it returns at once.
func (f *Forwarder) Stop(grace time.Duration, wait bool) {
	f.stop()
	timer := time.AfterFunc(grace, f.abort)
	if !wait {
		return
	}
	defer timer.Stop()
	select {
	case <-f.done:
	case <-f.attempts.Done():
		select {
		case <-f.done:
		case <-time.After(time.Second): // a handler that ignores its context
		}
	}
}

// Done reports whether Run has returned.
func (f *Forwarder) Done() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// Pending returns how many deliveries the app has not accepted yet.
func (f *Forwarder) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending)
}

// forward reads the log from its beginning and makes the attempts that are due.
// It returns when the forwarder is stopped, or after it has failed to read.
func (f *Forwarder) forward(attempts *sync.WaitGroup) {
	cursor := f.hub.SubscribeAll([]string{Topic(f.Queue)})
	defer cursor.Close()
	for f.stopping.Err() == nil {
		if err := f.read(cursor); err != nil {
			f.Log.Warn("deliveries to the app can't be read; the forwarder tries again", zap.String("rule", f.Rule), zap.Error(err))
			f.sleep(storePause)
			return
		}
		wait := f.startAttempt(attempts)
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-cursor.Ready():
		case <-f.wake:
		case <-timer.C:
		case <-f.stopping.Done():
		}
		timer.Stop()
	}
}

func (f *Forwarder) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.stopping.Done():
	}
}

// read adds the new deliveries in the log.
func (f *Forwarder) read(cursor *hub.Cursor) error {
	for f.stopping.Err() == nil {
		entries, err := cursor.Next(batchBytes, nil)
		if err != nil {
			return err
		}
		f.addPending(entries)
		if cursor.CaughtUp() {
			break
		}
	}
	return nil
}

func (f *Forwarder) addPending(entries []*store.Entry) {
	for _, e := range entries {
		if _, done := f.hub.PublishedBefore(f.doneKey(e.ID)); done {
			continue
		}
		f.mu.Lock()
		if f.pending[e.ID] == nil {
			// The clock may have been set back since: a delivery is not due later
			// than now, and its retries don't last longer than For.
			received := e.Time
			if now := time.Now(); received.After(now) {
				received = now
			}
			p := &pending{id: e.ID, seq: e.Seq, received: received, due: received, backoff: newBackoff()}
			f.pending[e.ID] = p
			f.queue.add(p)
		}
		f.mu.Unlock()
	}
}

// doneKey is the idempotency key of the record that a delivery is done. The
// record outlives the delivery in the log: meanwhile at most as many deliveries
// as the log holds can end that came before it, and as many that came after it.
func (f *Forwarder) doneKey(id string) hub.IdempotencyKey {
	window := store.Window{MaxCount: 2*f.History.MaxEvents + maxInFlight, MaxAge: f.History.MaxAge + time.Hour}
	return hub.IdempotencyKey{Scope: "forwarded " + f.Queue, ID: id, Window: window}
}

// startAttempt starts the first attempt that is due, if the limit allows one
// more. It returns how long to wait before the next call.
func (f *Forwarder) startAttempt(attempts *sync.WaitGroup) time.Duration {
	p, wait := f.take()
	if p == nil {
		return wait
	}
	ended := make(chan struct{})
	attempts.Go(func() {
		defer close(ended)
		defer f.release(p)
		f.attempt(p)
	})
	select {
	case <-ended:
	case <-time.After(orderPause):
	}
	return 0
}

// idle is how long to wait if no attempt is due.
const idle = time.Hour

// take takes the first delivery that is due, if the limit allows one more.
func (f *Forwarder) take() (*pending, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inFlight >= maxInFlight {
		return nil, idle // until an attempt ends
	}
	p, wait := f.queue.take(time.Now())
	if p != nil {
		f.inFlight++
	}
	return p, wait
}

func (f *Forwarder) release(p *pending) {
	f.mu.Lock()
	if f.pending[p.id] == p { // it isn't done
		f.queue.add(p)
	}
	f.inFlight--
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *Forwarder) forget(p *pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, p.id)
}
