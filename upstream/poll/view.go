package poll

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// errTimeout is the cause when a poll takes too long.
var errTimeout = errors.New("the backend took too long")

// view is one document as one set of viewers sees it, and the goroutine that
// polls it.
type view struct {
	poller   *Poller
	target   *target
	ctx      context.Context
	cancel   context.CancelFunc
	endTopic string        // the topic of the view's own state: stale, and its end
	client   string        // who has brought it about
	pollNow  chan struct{} // asks for a poll at once
	polled   chan struct{} // closed after the first poll
	done     chan struct{} // closed when the document has come to its end
	moved    chan struct{} // closed when the viewers shall go to the next configuration
	move     func()        // closes it

	// Guarded by the poller's mutex.
	key     string
	shared  bool // among all who may see the document
	viewers *viewers
	streams int
	idle    *time.Timer

	// Only the view's own goroutine uses these.
	schedule  *schedule
	notBefore time.Time // the backend has asked for as much
	refreshed time.Time // when a write was last the reason to poll
	since     validators
	sum       uint64   // of the last body
	lease     *lease   // the topic, once the view has had a document
	outage    *failure // while the backend fails

	// Held from an event's publication until the view knows of it, and while
	// a viewer takes a place: it comes before both or after both.
	publishing sync.Mutex

	mu              sync.Mutex
	refusal         *subrequest.Response
	polledAs        string          // whom the first answer was given to
	err             error           // why it can't be polled at all
	checkFailure    *checkFailure   // goes with errUnanswered
	currentKey      string          // the key, and
	currentlyShared bool            // whether it is shared, for those who wait for the first poll
	burstBegan      time.Time       // when the newest burst of writes began
	lastWrite       time.Time       // when the newest write was seen
	instance        string          // sets the topic apart from those of other views of the key
	doc             *document       // the newest that the backend has confirmed
	at              *store.Entry    // the event that brought it
	varies          map[string]bool // those that the key holds
	stale           *store.Entry    // set while the backend fails
	complete        *store.Entry    // set when the document is finished
	cached          *cachedResponse // what ordinary requests are answered with
	pollStatus      pollStatus
}

// seed makes sums of bodies unpredictable to those who write them.
var seed = maphash.MakeSeed()

func newView(p *Poller, t *target, key string, shared bool, hints map[string]bool) *view {
	v := &view{
		poller:          p,
		target:          t,
		client:          t.client(),
		key:             key,
		shared:          shared,
		viewers:         newViewers(t.principal),
		currentKey:      key,
		currentlyShared: shared,
		varies:          hints,
		endTopic:        "\x00end/" + rand.Text(),
		pollNow:         make(chan struct{}, 1),
		polled:          make(chan struct{}),
		done:            make(chan struct{}),
		moved:           make(chan struct{}),

		schedule: newSchedule(p.config),
	}
	if p.config.mode.Incremental() {
		v.instance = "/" + rand.Text()
	}
	v.move = sync.OnceFunc(func() { close(v.moved) })
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.idle = time.AfterFunc(time.Hour, func() { p.expire(v) })
	v.idle.Stop()
	return v
}

// rename gives the view another key. The caller holds the poller's mutex.
func (v *view) rename(key string, shared bool, hints map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key, v.shared = key, shared
	v.currentKey, v.currentlyShared, v.varies = key, shared, hints
}

// dropKey makes the view one that admits nobody any more.
func (v *view) dropKey() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.currentKey = ""
}

// admits tells whether the view is one for a request, by the hints that it is
// itself told apart by: what the poller knows of them goes with the last view,
// which this may have been.
func (v *view) admits(t *target) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.poller.hub.Digest(t.key(v.currentlyShared, v.varies)...) == v.currentKey
}

// isEmpty tells whether the view has ended with nothing in it.
func (v *view) isEmpty() bool {
	if !isClosed(v.done) {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at == nil && v.stale == nil && v.complete == nil
}

func (v *view) hasKey(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.currentKey == key
}

// refused is what the first poll has come to, if it was no document, and the id
// of the asker who was told so.
func (v *view) refused() (refusal *subrequest.Response, to string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refusal, v.polledAs, v.err
}

// refresh asks for a poll at once, or for one more if one is under way: that
// one may have seen the state from before the reason to ask.
func (v *view) refresh() {
	v.recordWrite()
	select {
	case v.pollNow <- struct{}{}:
	default: // asked already
	}
}

func (v *view) recordWrite() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if now.Sub(v.lastWrite) >= debounce {
		v.burstBegan = now
	}
	v.lastWrite = now
}

// writes returns when the newest burst of writes began, and when the newest
// write of it was.
func (v *view) writes() (began, newest time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.burstBegan, v.lastWrite
}

// run polls until nobody watches, or the document has come to its end. Polls
// of one view never overlap.
func (v *view) run() {
	defer v.cancel()
	defer v.poller.failures.forget(&v.outage)
	defer v.releaseLease()
	for first := true; ; first = false {
		started := time.Now()
		came, header := v.pollAside(first)
		took := time.Since(started)
		if asked := !first || v.target.checkFailure == nil; asked && v.ctx.Err() == nil {
			v.poller.observer.Polled(came.result(), took)
		}
		if came == ended {
			if v.ctx.Err() == nil { // by the backend's word
				v.poller.failures.end(&v.outage)
			}
			v.poller.remove(v)
			if !isClosed(v.moved) {
				close(v.done)
			}
		}
		if first {
			close(v.polled)
		}
		if came == ended {
			return
		}
		now := time.Now()
		v.notBefore = now.Add(retryAfter(header, now))
		pause := v.schedule.next(came, took, header, now)
		v.recordPoll(came, now, now.Add(pause))
		if !v.wait(pause) {
			return
		}
	}
}

const (
	// debounce is how long no write must be seen until a burst of them is over.
	debounce = 20 * time.Millisecond
	// maxDebounce is how long a burst may keep the documents waiting.
	maxDebounce = time.Second
)

// wait waits for the next poll's time or for a write. The first write of a
// burst is a reason to poll at once, all others together are one when the
// burst is over, however long the polls take. It returns false when the view
// is to end.
func (v *view) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	var due time.Time // when a write must have been followed by a poll
	for {
		select {
		case <-timer.C:
			if !due.IsZero() {
				v.refreshed = time.Now()
			}
			return true
		case <-v.ctx.Done():
			return false
		case <-v.pollNow:
		}
		now := time.Now()
		began, newest := v.writes()
		switch {
		case now.Before(v.notBefore):
			due = v.notBefore
			timer.Reset(due.Sub(now))
		case due.IsZero() && began.After(v.refreshed):
			v.refreshed = now
			return true
		default:
			if due.IsZero() {
				due = now.Add(maxDebounce)
			}
			timer.Reset(min(newest.Add(debounce).Sub(now), due.Sub(now)))
		}
	}
}

// pollAside polls on a goroutine of its own, since a request through Caddy's
// handlers needs a stack many times the size of the one that waits for the next.
func (v *view) pollAside(first bool) (came outcome, header http.Header) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		came, header = v.pollSafely(first)
	}()
	<-done
	return came, header
}

// pollSafely is poll, for a goroutine around which no server would keep a panic
// from ending the process.
func (v *view) pollSafely(first bool) (came outcome, header http.Header) {
	defer func() {
		if p := recover(); p != nil {
			came = v.publishStale(0, fmt.Errorf("poll panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	return v.poll(first)
}

// poll asks once, when it is the view's turn, or more often if the answer may be
// about who has asked. It returns the headers of the answer, if there was
// one.
func (v *view) poll(first bool) (outcome, http.Header) {
	if u := v.target.checkFailure; first && u != nil {
		return v.publishStale(u.status, u.err), u.header
	}
	o, asked := check{principal: v.nextPrincipal()}, time.Now()
	o.resp, o.err = v.poller.send(v.ctx, v.target, o.principal, v.since)
	if !o.isGood() {
		o = v.confirmRefusal(o)
	}
	v.recordAuthorization(o.principal, o.isGood())
	v.recordPrincipal(o.principal)
	resp, err := o.resp, o.err
	switch {
	case v.ctx.Err() != nil: // nobody watches
		return ended, nil
	case first && misconfigured(err):
		v.failForGood(unwatchable(err))
		return ended, nil
	case first && (err != nil || subrequest.IsFailure(resp.Status)) && v.isChecked():
		v.failUndecided(resp, err)
		return ended, nil
	case err != nil:
		return v.publishStale(0, err), nil
	}
	came := v.answered(resp, first)
	v.storeResponse(resp, came, asked)
	return came, resp.Header
}

// answered takes what the backend has said.
func (v *view) answered(resp *subrequest.Response, first bool) outcome {
	v.setStatus(resp.Status)
	unmodified := resp.Status == http.StatusNotModified && v.since != (validators{})
	switch {
	case subrequest.IsFailure(resp.Status):
		return v.publishStale(resp.Status, nil)
	case !unmodified && !isDocument(resp.Status):
		v.publishGone(resp, first)
		return ended
	case v.target.checkFailure != nil: // its viewers come back, to be asked about
		return ended
	case v.keyChanged(resp.Header, unmodified, first): // its viewers come back, each to their own
		return ended
	case unmodified:
		return v.confirm(notModified)
	}
	sum := maphash.Bytes(seed, resp.Body)
	if v.doc != nil && sum == v.sum {
		v.since = v.validatorsOf(resp.Header)
		return v.confirm(unchanged)
	}
	doc, finished, err := v.poller.config.read(v.ctx, resp)
	if err != nil {
		return v.publishStale(0, err)
	}
	v.since, v.sum = v.validatorsOf(resp.Header), sum
	came := v.publishChange(doc)
	if finished && came != failed {
		return v.publishComplete()
	}
	return came
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// isDocument tells the statuses of answers that are the document.
func isDocument(status int) bool { return status >= 200 && status <= 203 }

// fields are for log lines about the view. The query may hold secrets.
func (v *view) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("host", v.target.host), zap.String("path", v.target.path)}, more...)
}

// misconfigured tells errors that will not go away by asking again.
func misconfigured(err error) bool {
	return errors.Is(err, subrequest.ErrEventStream) || errors.Is(err, subrequest.ErrNoResponse) || errors.Is(err, subrequest.ErrTooLarge)
}

// unwatchable is what viewers of a document that can't be polled are told.
func unwatchable(err error) error {
	if errors.Is(err, subrequest.ErrEventStream) {
		return err // what is a stream already can pass as it is
	}
	return &refusal.Error{Status: http.StatusBadGateway, Kind: refusal.NotStreamable, Reason: "this document can't be watched: " + err.Error(), Err: err}
}

// recordPrincipal notes who has had the answer.
func (v *view) recordPrincipal(as *principal) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.polledAs = as.id
}

// failForGood ends a view that can't be polled.
func (v *view) failForGood(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = err
	if !errors.Is(err, subrequest.ErrEventStream) {
		v.poller.log.Error("document can't be polled", v.fields(zap.Error(err))...)
	}
}

// failUndecided ends a view that was to be shared by those whom the backend lets
// see it, while it can't tell who that is.
func (v *view) failUndecided(resp *subrequest.Response, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err, v.checkFailure = errUndecided, &checkFailure{err: err}
	if err == nil {
		v.checkFailure = &checkFailure{status: resp.Status, header: resp.Header}
	}
}

// keyChanged takes note of what the backend says about whose the document is, and
// tells whether the view's viewers may no longer share it, or should share it
// with others: for what this response says, or for what one to another view of
// the same URL has said before.
func (v *view) keyChanged(h http.Header, notModified, first bool) bool {
	v.poller.learn(v, h, notModified)
	if v.hasKey(v.poller.key(v.target)) {
		return false
	}
	if first && v.poller.rekey(v) {
		return false
	}
	v.dropKey()
	return true
}
