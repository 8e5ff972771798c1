package main

import (
	"net/http"
	"sync"
	"time"
)

// maxFreeze limits how many seconds one request can freeze the petstore for.
const maxFreeze = 60

// Freezer holds up requests while the petstore is frozen. It is safe for concurrent
// use.
type Freezer struct {
	mu    sync.Mutex
	until time.Time
}

// freeze freezes the petstore for a number of seconds; 0 ends that.
func (f *Freezer) freeze(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Seconds int `json:"seconds"`
	}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if body.Seconds < 0 || body.Seconds > maxFreeze {
		return badRequest("seconds must be 0 to %d", maxFreeze)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = time.Now().Add(time.Duration(body.Seconds) * time.Second)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// freezing returns a handler that serves requests when the petstore isn't frozen.
func (f *Freezer) freezing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		left := time.Until(f.until)
		f.mu.Unlock()
		if pause(r.Context(), left) == nil {
			next.ServeHTTP(w, r)
		}
	})
}
