package main

import (
	"maps"
	"net/http"
	"sync"
)

// Requests counts the requests of each route, for the demo's page.
type Requests struct {
	mu     sync.Mutex
	counts map[string]int
}

// NewRequests returns a counter without requests.
func NewRequests() *Requests {
	return &Requests{counts: make(map[string]int)}
}

// Counts returns the number of requests of each route.
func (q *Requests) Counts() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.counts)
}

// counting counts each request by the pattern that it matches, before it is
// served. A client could grow a map of paths without limit.
func (q *Requests) counting(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		if pattern == "" {
			mux.ServeHTTP(refusal{w}, r)
			return
		}
		q.add(pattern)
		mux.ServeHTTP(w, r)
	})
}

func (q *Requests) add(route string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts[route]++
}

// refusal turns the mux's own plain-text 404 and 405 into JSON.
type refusal struct{ http.ResponseWriter }

func (w refusal) WriteHeader(status int) {
	writeError(w.ResponseWriter, &problem{status, http.StatusText(status)})
}

// Write discards the plain text.
func (refusal) Write(text []byte) (int, error) { return len(text), nil }

func (a *api) listRequests(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, a.requests.Counts())
	return nil
}
