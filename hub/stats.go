package hub

import "time"

// Stats are what there is to tell about a hub from outside.
type Stats struct {
	// Published is how many events were ever published on the log.
	Published uint64 `json:"published"`
	// Kept is how many of them the history still holds, and Oldest when the
	// oldest of those was published.
	Kept   uint64     `json:"kept"`
	Oldest *time.Time `json:"oldest,omitempty"`
	// Topics is how many topics are followed, and Followers by how many
	// streams.
	Topics    int `json:"topics"`
	Followers int `json:"followers"`
	// Lag is how far the slowest follower is behind: how many events were
	// published since the first that it has not read. Zero: all have all.
	Lag uint64 `json:"lag"`
	// Error is why the newest events could not be stored; empty if they were.
	Error string `json:"error,omitempty"`
}

// Stats returns what there is to tell now. It looks at each follower once.
func (h *Hub) Stats() Stats {
	tail, head := h.store.Range()
	s := Stats{Published: head, Kept: head + 1 - tail}
	if oldest, ok := h.store.Oldest(); ok {
		s.Oldest = &oldest
	}
	if err := h.Err(); err != nil {
		s.Error = err.Error()
	}
	h.readersMu.RLock()
	defer h.readersMu.RUnlock()
	s.Topics = len(h.readers)
	for topic, readers := range h.readers {
		for c := range readers {
			if c.topics[0] != topic {
				continue // it is counted there
			}
			s.Followers++
			s.Lag = max(s.Lag, c.lag(head))
		}
	}
	return s
}

// failure is that events could not be stored.
type failure struct {
	err error
	at  time.Time
}

// Err returns why the newest events could not be stored, and nil if they were:
// a hub that could not store some tries again with the next.
func (h *Hub) Err() error {
	_, err := h.Failure()
	return err
}

// Failure is Err, with when that was.
func (h *Hub) Failure() (at time.Time, err error) {
	if failed := h.failed.Load(); failed != nil {
		return failed.at, failed.err
	}
	return time.Time{}, nil
}
