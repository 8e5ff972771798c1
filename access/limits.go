package access

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Limits bounds how many streams of a rule are open at a time. Zero means no
// bound.
type Limits struct {
	// How many streams the rule may have. One more is refused with 503 and
	// Retry-After. Default, and what zero means: no bound.
	Rule int `json:"rule,omitempty"`

	// How many of them one client may have: an address, as far as the
	// server's trusted proxies tell it, of which for IPv6 the first 64 bits
	// count. One more is refused with 429 and Retry-After. Default, and what
	// zero means: no bound.
	PerClient int `json:"per_client,omitempty"`

	// How many of them one user may have: {http.auth.user.id}, as a handler
	// before the rule has set it. Streams of nobody in particular are not
	// counted here. One more is refused with 429 and Retry-After. Default,
	// and what zero means: no bound.
	PerUser int `json:"per_user,omitempty"`
}

// Validate finds bounds that make no sense.
func (l *Limits) Validate() error {
	switch {
	case l.Rule < 0 || l.PerClient < 0 || l.PerUser < 0:
		return errors.New("max_streams can't be negative")
	case *l == Limits{}:
		return errors.New("max_streams needs a bound: rule, per_client or per_user")
	}
	return nil
}

// StreamLimiter counts the streams of a rule, which may span many configurations. Its
// zero value is ready to use, and it is safe for concurrent use. It holds
// nothing about who has no stream and is not expected back.
type StreamLimiter struct {
	mu       sync.Mutex
	total    int
	clients  map[string]int
	users    map[string]int
	reserved map[slotOwner][]*time.Timer // what gives places back that are kept
	waiting  int                         // requests that find no place
	released chan struct{}               // closed when a place is given back; nil while none waits
}

// principal is whose a stream is.
type slotOwner struct{ client, user string }

const (
	// maxSlotWait is how long a request waits for a place: that of a page which
	// is reloaded may come before the end of the one before is noticed.
	maxSlotWait = 500 * time.Millisecond
	// maxWaiting is how many requests of a rule wait for places at a time.
	maxWaiting = 100
)

// AcquireWait is Enter, and waits a moment for a place to become free.
func (s *StreamLimiter) AcquireWait(ctx context.Context, l *Limits, client, user string) (*Slot, *refusal.Error) {
	place, refused := s.Acquire(l, client, user)
	if refused == nil || !s.addWaiters(1) {
		return place, refused
	}
	defer s.addWaiters(-1)
	over := time.NewTimer(maxSlotWait)
	defer over.Stop()
	for {
		left := s.nextRelease() // before the look, or it could miss one
		if place, refused = s.Acquire(l, client, user); refused == nil {
			return place, nil
		}
		select {
		case <-left:
		case <-over.C:
			return nil, refused
		case <-ctx.Done():
			return nil, refused
		}
	}
}

// addWaiters counts who waits, and tells whether there is room.
func (s *StreamLimiter) addWaiters(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting+n > maxWaiting {
		return false
	}
	s.waiting += n
	return true
}

// nextRelease is closed when the next place is given back.
func (s *StreamLimiter) nextRelease() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released == nil {
		s.released = make(chan struct{})
	}
	return s.released
}

// Acquire takes a place for a stream, or says why there is none. The place must
// be given back.
//
// Who comes back to a place that was kept for them has it whatever the limits
// say: these may have become narrower, and others be waiting.
func (s *StreamLimiter) Acquire(l *Limits, client, user string) (*Slot, *refusal.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	who := slotOwner{client, user}
	if kept := s.reserved[who]; len(kept) > 0 {
		kept[0].Stop()
		s.unreserveLocked(who, kept[0])
		return &Slot{limiter: s, owner: who}, nil
	}
	switch {
	case isReached(l.PerClient, s.clients[client]):
		return nil, limitReached(http.StatusTooManyRequests, refusal.MaxStreamsClient, "there are as many streams from this address as there may be: close one")
	case user != "" && isReached(l.PerUser, s.users[user]):
		return nil, limitReached(http.StatusTooManyRequests, refusal.MaxStreamsUser, "this user has as many streams as they may have: close one")
	case isReached(l.Rule, s.total):
		return nil, limitReached(http.StatusServiceUnavailable, refusal.MaxStreams, "there are as many streams here as there may be")
	}
	s.countLocked(who)
	return &Slot{limiter: s, owner: who}, nil
}

func isReached(limit, n int) bool { return limit > 0 && n >= limit }

// limitReached is a refusal of who may be let in when another has left.
func limitReached(status int, kind, reason string) *refusal.Error {
	return &refusal.Error{Status: status, Kind: kind, Reason: reason, RetryAfter: 10 * time.Second}
}

func (s *StreamLimiter) countLocked(who slotOwner) {
	if s.clients == nil {
		s.clients, s.users, s.reserved = make(map[string]int), make(map[string]int), make(map[slotOwner][]*time.Timer)
	}
	s.total++
	s.clients[who.client]++
	if who.user != "" {
		s.users[who.user]++
	}
}

func (s *StreamLimiter) uncountLocked(who slotOwner) {
	if s.released != nil {
		close(s.released)
		s.released = nil
	}
	s.total--
	decrement(s.clients, who.client)
	if who.user != "" {
		decrement(s.users, who.user)
	}
}

// decrement takes one off a count, and forgets a count of none.
func decrement[K comparable](counts map[K]int, of K) {
	if counts[of]--; counts[of] <= 0 {
		delete(counts, of)
	}
}

// Slot is what an open stream takes.
type Slot struct {
	limiter *StreamLimiter
	owner   slotOwner
}

// Release gives the place back.
func (p *Slot) Release() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.limiter.uncountLocked(p.owner)
}

// Reserve gives the place back in a while, unless its viewer is back before: who
// was asked to reconnect must not find it taken by another.
func (p *Slot) Reserve(while time.Duration) {
	s := p.limiter
	s.mu.Lock()
	defer s.mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(while, func() {
		s.mu.Lock() // by which time timer is set
		defer s.mu.Unlock()
		if s.unreserveLocked(p.owner, timer) {
			s.uncountLocked(p.owner)
		}
	})
	s.reserved[p.owner] = append(s.reserved[p.owner], timer)
}

// unreserveLocked tells whether the place was still kept.
func (s *StreamLimiter) unreserveLocked(who slotOwner, timer *time.Timer) bool {
	i := slices.Index(s.reserved[who], timer)
	if i < 0 {
		return false
	}
	if s.reserved[who] = slices.Delete(s.reserved[who], i, i+1); len(s.reserved[who]) == 0 {
		delete(s.reserved, who)
	}
	return true
}
