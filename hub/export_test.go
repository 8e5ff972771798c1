package hub

// Readers is how many cursors are open, by topic: none when none has leaked.
func (h *Hub) Readers() map[string]int {
	h.readersMu.RLock()
	defer h.readersMu.RUnlock()
	n := make(map[string]int)
	for topic, cursors := range h.readers {
		n[topic] = len(cursors)
	}
	return n
}

// Waiting is how many publications wait for the writer.
func (h *Hub) Waiting() int {
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	return len(h.queue)
}
