package stream

// Len returns the number of cached events.
func (v *Envelopes) Len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.entries)
}
