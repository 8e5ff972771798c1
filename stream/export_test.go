package stream

// Kept is how many envelopes are kept.
func (v *Envelopes) Kept() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.frames)
}
