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

// Limits limits how many streams of a rule are open at a time.
type Limits struct {
	// Limits the streams of the rule. The rule refuses one more with 503 and
	// Retry-After. Default: 0, which means no limit.
	Rule int `json:"rule,omitempty"`

	// Limits the streams of one client: one address as the server's trusted
	// proxies report it, or one /64 network for IPv6. The rule refuses one
	// more with 429 and Retry-After. Default: 0, which means no limit.
	PerClient int `json:"per_client,omitempty"`

	// Limits the streams of one user. An earlier handler sets the user in
	// {http.auth.user.id}; streams without a user don't count. The rule refuses
	// one more with 429 and Retry-After. Default: 0, which means no limit.
	PerUser int `json:"per_user,omitempty"`
}

// Validate returns an error for limits that make no sense.
func (l *Limits) Validate() error {
	switch {
	case l.Rule < 0 || l.PerClient < 0 || l.PerUser < 0:
		return errors.New("max_streams can't be negative")
	case *l == Limits{}:
		return errors.New("max_streams needs a bound: rule, per_client or per_user")
	}
	return nil
}

// StreamLimiter counts the open streams of a rule, also across reloads. Its zero
// value is ready to use, and it is safe for concurrent use. It keeps nothing about
// clients without a stream or a reservation.
type StreamLimiter struct {
	mu       sync.Mutex
	total    int
	clients  map[string]int
	users    map[string]int
	reserved map[slotOwner][]*time.Timer // each releases a reserved slot
	waiters  int                         // requests in AcquireWait
	waiting  map[string]int              // the same of each client
	released chan struct{}               // closed at the next release; nil if nothing waits for it
}

type slotOwner struct{ client, user string }

const (
	// maxSlotWait is how long a request waits for a slot. When a page is
	// reloaded, its new stream may begin before the server notices the end of
	// the old one.
	maxSlotWait = 500 * time.Millisecond
	// maxWaiters is how many requests of a rule wait for slots at a time. One
	// client has at most half of them.
	maxWaiters = 100
)

// AcquireWait is like [StreamLimiter.Acquire], but waits up to half a second for a
// slot to be released.
func (s *StreamLimiter) AcquireWait(ctx context.Context, l *Limits, client, user string) (*Slot, *refusal.Error) {
	slot, refused := s.Acquire(l, client, user)
	if refused == nil || !s.addWaiter(client) {
		return slot, refused
	}
	defer s.removeWaiter(client)
	timeout := time.NewTimer(maxSlotWait)
	defer timeout.Stop()
	for {
		released := s.nextRelease() // before Acquire, or a release between the two would be missed
		if slot, refused = s.Acquire(l, client, user); refused == nil {
			return slot, nil
		}
		select {
		case <-released:
		case <-timeout.C:
			return nil, refused
		case <-ctx.Done():
			return nil, refused
		}
	}
}

// addWaiter adds a waiting request, or returns false if the client has as many as
// are left for others.
func (s *StreamLimiter) addWaiter(client string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[client] >= maxWaiters-s.waiters {
		return false
	}
	if s.waiting == nil {
		s.waiting = make(map[string]int)
	}
	s.waiters++
	s.waiting[client]++
	return true
}

func (s *StreamLimiter) removeWaiter(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters--
	decrement(s.waiting, client)
}

// nextRelease returns a channel that is closed at the next release of a slot.
func (s *StreamLimiter) nextRelease() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released == nil {
		s.released = make(chan struct{})
	}
	return s.released
}

// Acquire returns a slot for a stream, or a refusal if a limit is reached. The
// caller must release or reserve the slot. The user may be empty.
//
// A client and user with a reserved slot get it even if a reload has lowered the
// limits.
func (s *StreamLimiter) Acquire(l *Limits, client, user string) (*Slot, *refusal.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := slotOwner{client, user}
	if timers := s.reserved[owner]; len(timers) > 0 {
		timers[0].Stop()
		s.unreserveLocked(owner, timers[0])
		return &Slot{limiter: s, owner: owner}, nil
	}
	switch {
	case isReached(l.PerClient, s.clients[client]):
		return nil, limitReached(http.StatusTooManyRequests, refusal.MaxStreamsClient, "too many streams are open from this address: close one")
	case user != "" && isReached(l.PerUser, s.users[user]):
		return nil, limitReached(http.StatusTooManyRequests, refusal.MaxStreamsUser, "too many streams of this user are open: close one")
	case isReached(l.Rule, s.total):
		return nil, limitReached(http.StatusServiceUnavailable, refusal.MaxStreams, "too many streams are open here: try again later")
	}
	s.countLocked(owner)
	return &Slot{limiter: s, owner: owner}, nil
}

func isReached(limit, n int) bool { return limit > 0 && n >= limit }

func limitReached(status int, kind, reason string) *refusal.Error {
	return &refusal.Error{Status: status, Kind: kind, Reason: reason, RetryAfter: 10 * time.Second}
}

func (s *StreamLimiter) countLocked(owner slotOwner) {
	if s.clients == nil {
		s.clients, s.users, s.reserved = make(map[string]int), make(map[string]int), make(map[slotOwner][]*time.Timer)
	}
	s.total++
	s.clients[owner.client]++
	if owner.user != "" {
		s.users[owner.user]++
	}
}

func (s *StreamLimiter) uncountLocked(owner slotOwner) {
	if s.released != nil {
		close(s.released)
		s.released = nil
	}
	s.total--
	decrement(s.clients, owner.client)
	if owner.user != "" {
		decrement(s.users, owner.user)
	}
}

// decrement takes one off a count and deletes a count of zero.
func decrement[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// Slot is one unit of a limit, which an open stream holds. Its holder calls either
// Release or Reserve, once.
type Slot struct {
	limiter *StreamLimiter
	owner   slotOwner
}

// Release gives the slot back.
func (s *Slot) Release() {
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	s.limiter.uncountLocked(s.owner)
}

// Reserve releases the slot after d, unless its client and user acquire it again
// before. So a client that the module moves doesn't lose its slot to another.
func (s *Slot) Reserve(d time.Duration) {
	l := s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		l.mu.Lock() // by which time timer is set
		defer l.mu.Unlock()
		if l.unreserveLocked(s.owner, timer) {
			l.uncountLocked(s.owner)
		}
	})
	l.reserved[s.owner] = append(l.reserved[s.owner], timer)
}

// unreserveLocked removes a reservation. It returns false if it was gone.
func (s *StreamLimiter) unreserveLocked(owner slotOwner, timer *time.Timer) bool {
	i := slices.Index(s.reserved[owner], timer)
	if i < 0 {
		return false
	}
	if s.reserved[owner] = slices.Delete(s.reserved[owner], i, i+1); len(s.reserved[owner]) == 0 {
		delete(s.reserved, owner)
	}
	return true
}
