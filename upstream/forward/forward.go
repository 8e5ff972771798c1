// Package forward delivers requests to an app in the background, again and
// again until it takes them.
//
// What is to be delivered is an event on a topic of the hub that nobody outside
// can name: it is stored in one step with what is published of it, and is as
// durable. That it is done with is told by a receipt.
package forward

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

const (
	// maxInFlight is how many deliveries of a rule the app has at a time.
	maxInFlight = 8
	// orderPause is how long a delivery holds up the next one: as long as the
	// app answers within it, deliveries come in order.
	orderPause = 100 * time.Millisecond
	// attemptTimeout is how long the app may take for one.
	attemptTimeout = 30 * time.Second
	// storePause is how long after the store has failed it is asked again.
	storePause = time.Second
	// batchBytes is how much of the log is read at a time.
	batchBytes = 1 << 20
)

// Result is what has become of an attempt.
type Result string

// What becomes of attempts, and of deliveries.
const (
	// Delivered: the app has taken it.
	Delivered Result = "delivered"
	// Failed: it is tried again.
	Failed Result = "failed"
	// Dead: it was given up, or the app wants no such deliveries any more.
	Dead Result = "dead"
	// Lost: it left the history before the app had it.
	Lost Result = "lost"
)

// Results are all of them.
var Results = []Result{Delivered, Failed, Dead, Lost}

// Response is what an app has said.
type Response struct {
	Status int
	Header http.Header
}

// Options are what a forwarder needs.
type Options struct {
	// Queue names the deliveries of a rule; see [QueueOf].
	Queue string
	// Rule is what the rule is called in the log.
	Rule string
	// Send makes one attempt. It must return soon after its context ends.
	Send func(ctx context.Context, r *Request) (Response, error)
	// For is how long an app may fail to take a delivery until it is given up.
	For time.Duration
	// History is how much the hub's log keeps: a count and an age above zero.
	History store.History
	// Count is told of every result. It may be nil.
	Count func(Result)
	Log   *zap.Logger
}

// Forwarder delivers what a rule has received. It is safe for concurrent use.
type Forwarder struct {
	Options
	hub *hub.Hub

	stop     context.CancelFunc // no attempt begins any more
	stopping context.Context
	cut      context.CancelFunc // those that are under way end
	attempts context.Context
	done     chan struct{} // all has ended
	wake     chan struct{}

	mu       sync.Mutex
	pending  map[string]*pending // by id
	queue    queue               // those that aren't under way
	inFlight int
}

// pending is a delivery that the app has not taken yet. What it holds is read
// from the log when it is its turn.
type pending struct {
	id       string
	seq      uint64
	received time.Time
	attempts int
	due      time.Time
	taken    bool // the app has it, which is not noted yet
	backOff  *schedule
}

// New returns a forwarder, which does nothing until it runs.
func New(h *hub.Hub, o Options) *Forwarder {
	if o.Count == nil {
		o.Count = func(Result) {}
	}
	f := &Forwarder{Options: o, hub: h, done: make(chan struct{}), wake: make(chan struct{}, 1), pending: make(map[string]*pending), queue: newQueue()}
	f.stopping, f.stop = context.WithCancel(context.Background())
	f.attempts, f.cut = context.WithCancel(context.Background())
	return f
}

// QueueOf returns the name of the queue of a rule's deliveries. The scope
// names the rule, and is the same after a restart.
func QueueOf(h *hub.Hub, scope string) string { return h.Digest("forward", scope) }

const (
	topicPrefix     = "\x00forward/"
	deadTopicPrefix = "\x00dead/"
)

// Topic returns the topic on which the deliveries of a queue are published.
func Topic(queue string) string { return topicPrefix + queue }

// Queues returns the queues of which the hub's log holds deliveries or dead
// letters, with the name of the rule that received them.
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

// ruleOf returns the rule that a stored delivery or dead letter names.
func ruleOf(e *store.Entry) string {
	var named struct{ Rule string }
	if e == nil || decodeFrame(e.Frame, &named) != nil {
		return ""
	}
	return named.Rule
}

// idPrefix is how the ids of deliveries begin.
const idPrefix = "forward-"

// Message is the event that has a request delivered.
func Message(queue string, r *Request) (hub.Message, error) {
	data, err := encode(r)
	return hub.Message{Topics: []string{Topic(queue)}, Event: event.Event{ID: idPrefix + rand.Text(), Data: data}}, err
}

// IsMessage tells whether an id is one of a [Message].
func IsMessage(id string) bool { return strings.HasPrefix(id, idPrefix) && len(id) > len(idPrefix)+20 }

// Run delivers until the forwarder is stopped: first, in order, what was left.
// It waits for the one that had the scope before, if there is one.
func (f *Forwarder) Run(before *Forwarder) {
	defer close(f.done)
	defer f.cut()
	if before != nil { // also when this one is stopped already: the next one waits for it
		select {
		case <-before.done:
		case <-f.attempts.Done():
			before.cut()
			<-before.done
		}
	}
	var attempts sync.WaitGroup
	defer attempts.Wait()
	for f.stopping.Err() == nil {
		f.follow(&attempts)
	}
}

// Stop lets no attempt begin any more. Those under way may end, for as long as
// patience lasts; then they are cut off. It returns at once, or, if it is to
// wait, when all have ended or were told to.
func (f *Forwarder) Stop(patience time.Duration, wait bool) {
	f.stop()
	timer := time.AfterFunc(patience, f.cut)
	if !wait {
		return
	}
	defer timer.Stop()
	select {
	case <-f.done:
	case <-f.attempts.Done():
		select {
		case <-f.done:
		case <-time.After(time.Second): // a handler that doesn't mind its context
		}
	}
}

// Done tells that the forwarder has ended.
func (f *Forwarder) Done() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// Pending is how many deliveries the app has not taken yet.
func (f *Forwarder) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending)
}

// follow reads the log from its beginning, and makes the attempts that are due.
// It returns when the forwarder is stopped, or the log has moved on.
func (f *Forwarder) follow(attempts *sync.WaitGroup) {
	cursor := f.hub.SubscribeAll([]string{Topic(f.Queue)})
	defer cursor.Close()
	for f.stopping.Err() == nil {
		if err := f.read(cursor); err != nil {
			f.Log.Warn("deliveries to the app can't be read; it is tried again", zap.String("rule", f.Rule), zap.Error(err))
			f.sleep(storePause)
			return
		}
		wait := f.begin(attempts)
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

// read takes note of what is new in the log.
func (f *Forwarder) read(cursor *hub.Cursor) error {
	for f.stopping.Err() == nil {
		entries, err := cursor.Next(batchBytes, nil)
		if err != nil {
			return err
		}
		f.note(entries)
		if cursor.Drained() {
			break
		}
	}
	return nil
}

func (f *Forwarder) note(entries []*store.Entry) {
	for _, e := range entries {
		if _, done := f.hub.PublishedBefore(f.receipt(e.ID)); done {
			continue
		}
		f.mu.Lock()
		if f.pending[e.ID] == nil {
			p := &pending{id: e.ID, seq: e.Seq, received: e.Time, due: e.Time, backOff: newSchedule()}
			f.pending[e.ID] = p
			f.queue.add(p)
		}
		f.mu.Unlock()
	}
}

// receipt tells that a delivery is done with. It lasts longer than the delivery
// is in the log: while it is there, no more than the log holds can be done that
// came before it, and as many that came after it.
func (f *Forwarder) receipt(id string) hub.IdempotencyKey {
	window := store.Window{MaxCount: 2*f.History.MaxEvents + maxInFlight, MaxAge: f.History.MaxAge + time.Hour}
	return hub.IdempotencyKey{Scope: "forwarded " + f.Queue, ID: id, Window: window}
}

// begin makes the first attempt that is due, if one more may be under way. It
// returns how long it is until the next look.
func (f *Forwarder) begin(attempts *sync.WaitGroup) time.Duration {
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

// idle is how long it is to the next look if nothing is to be done.
const idle = time.Hour

// take takes the first delivery that is due, if one more may be under way.
func (f *Forwarder) take() (*pending, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inFlight >= maxInFlight {
		return nil, idle // until one ends
	}
	p, wait := f.queue.take(time.Now())
	if p != nil {
		f.inFlight++
	}
	return p, wait
}

func (f *Forwarder) release(p *pending) {
	f.mu.Lock()
	if f.pending[p.id] == p { // the app has not taken it
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
