package hub

import "time"

// Stats is a snapshot of a hub's state.
type Stats struct {
	// Published is how many events the log has ever received.
	Published uint64 `json:"published"`
	// Kept is how many events the history holds. Oldest is when the oldest of
	// them was published; nil if it holds none.
	Kept   uint64     `json:"kept"`
	Oldest *time.Time `json:"oldest,omitempty"`
	// Topics is how many topics have subscribers. Subscribers is how many
	// subscribers there are, each counted once.
	Topics      int `json:"topics"`
	Subscribers int `json:"followers"`
	// Lag is the largest [Cursor.Lag] of all subscribers.
	Lag uint64 `json:"lag"`
	// Error is why the hub could not store the newest events; empty if it could.
	Error string `json:"error,omitempty"`
}

// Stats returns the hub's current state. Its cost grows with the number of
// subscriptions, and publishing waits for it.
func (h *Hub) Stats() Stats {
	tail, head := h.store.Range()
	s := Stats{Published: head, Kept: head + 1 - tail}
	if oldest, ok := h.store.Oldest(); ok {
		s.Oldest = &oldest
	}
	if err := h.Err(); err != nil {
		s.Error = err.Error()
	}
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	s.Topics = len(h.subscribers)
	for topic, cursors := range h.subscribers {
		for _, c := range cursors {
			if c.topics[0] != topic {
				continue // counted under its first topic
			}
			s.Subscribers++
			s.Lag = max(s.Lag, c.lag(head))
		}
	}
	return s
}

// failure is a failed append.
type failure struct {
	err error
	at  time.Time
}

// Err returns why the hub could not store the newest events, and nil if it could.
// After a failure the hub tries again with the next publish.
func (h *Hub) Err() error {
	_, err := h.Failure()
	return err
}

// Failure returns the error of [Hub.Err] and its time.
func (h *Hub) Failure() (at time.Time, err error) {
	if failed := h.failed.Load(); failed != nil {
		return failed.at, failed.err
	}
	return time.Time{}, nil
}
