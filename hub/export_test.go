package hub

// SubscribersByTopic returns the number of open cursors by topic: empty unless one leaks.
func (h *Hub) SubscribersByTopic() map[string]int {
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	n := make(map[string]int)
	for topic, cursors := range h.subscribers {
		n[topic] = len(cursors)
	}
	return n
}

// Waiting returns how many publications wait for the leader.
func (h *Hub) Waiting() int {
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	return len(h.queue)
}

// BeginWake leaves the cursor as it is in the middle of being woken for a batch
// that ends at last.
func (c *Cursor) BeginWake(last uint64) { c.newest.Store(last) }
