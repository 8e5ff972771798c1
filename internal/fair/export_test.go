package fair

// Known returns how many holders and queues the slots remember.
func (s *Slots) Known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.holders) + len(s.queues) + s.awaited.Len()
}

// Waiting returns how many requests wait.
func (s *Slots) Waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		n += q.waiters.Len()
	}
	return n
}
