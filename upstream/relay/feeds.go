package relay

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Feeds holds the feeds of a hub's rules. It outlives configurations. Its zero value
// is ready to use. It is safe for concurrent use.
type Feeds struct {
	mu      sync.Mutex
	byToken map[string]*feed
	shared  map[string]*feed   // those that run, by the key of the shared request
	counts  map[string]int     // of those that run, by rule, and by rule and client
	over    map[string][]*feed // those that have ended, by rule, the oldest first
	rules   map[string]bool    // the names of those that have, or had, feeds
	closed  bool
}

func (s *Feeds) addRule(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		s.rules = make(map[string]bool)
	}
	s.rules[name] = true
}

// add adds a feed that is about to run, unless one of an equal request runs that
// viewers may share: then it returns that one. alone says that the feed can't be
// shared. It refuses one beyond the rule's limits.
func (s *Feeds) add(f *feed, alone bool) (other *feed, refused error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := f.sharedKey()
	if alone {
		key = ""
	}
	if other := s.shared[key]; other != nil {
		return other, nil
	}
	switch c := f.config; {
	case s.closed:
		return nil, refusal.Newf(http.StatusServiceUnavailable, "the server shuts down")
	case s.counts[f.place] >= c.MaxResponses:
		return nil, &refusal.Error{Status: http.StatusServiceUnavailable, Kind: "max_responses", Reason: "too many streams of the backend are read; try again later", RetryAfter: 5 * time.Second}
	case s.counts[f.countKey()] >= c.MaxResponsesPerClient:
		return nil, &refusal.Error{Status: http.StatusTooManyRequests, Kind: "max_responses_per_client", Reason: "too many streams of the backend are read for your address; try again later", RetryAfter: 5 * time.Second}
	}
	if s.byToken == nil {
		s.byToken, s.shared = make(map[string]*feed), make(map[string]*feed)
		s.counts, s.over = make(map[string]int), make(map[string][]*feed)
	}
	s.byToken[f.token] = f
	s.counts[f.place]++
	s.counts[f.countKey()]++
	if key != "" {
		s.shared[key] = f
	}
	return nil, nil
}

// end moves a feed to those that have ended. It forgets the rule's oldest one if
// there are too many. If kept is false, it forgets the feed.
func (s *Feeds) end(f *feed, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range []string{f.place, f.countKey()} {
		if s.counts[key]--; s.counts[key] == 0 {
			delete(s.counts, key)
		}
	}
	if key := f.sharedKey(); s.shared[key] == f {
		delete(s.shared, key)
	}
	if !kept || s.closed {
		delete(s.byToken, f.token)
		return
	}
	f.keep.Reset(time.Duration(f.config.Keep))
	s.over[f.place] = append(s.over[f.place], f)
	if len(s.over[f.place]) > f.config.MaxResponses {
		s.forgetLocked(s.over[f.place][0])
	}
}

// forget removes a feed that has ended.
func (s *Feeds) forget(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(f)
}

func (s *Feeds) forgetLocked(f *feed) {
	f.keep.Stop()
	delete(s.byToken, f.token)
	s.over[f.place] = slices.DeleteFunc(s.over[f.place], func(other *feed) bool { return other == f })
	if len(s.over[f.place]) == 0 {
		delete(s.over, f.place)
	}
}

func (s *Feeds) find(token string) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byToken[token]
}

func (s *Feeds) all() []*feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.byToken))
}

func (s *Feeds) retire(r *Relay) {
	for _, f := range s.all() {
		f.retire(r)
	}
}

// Close ends all feeds. Their goroutines end soon after.
func (s *Feeds) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, f := range s.all() {
		f.cancel(errClosed)
		if f.isOver() {
			s.forget(f)
		}
	}
}
