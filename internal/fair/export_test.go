package fair

// Known returns how many holders and queues the slots remember.
func (s *Slots) Known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.clients) + len(s.sites) + len(s.queues) + s.awaited.Len()
	for _, of := range s.sites {
		n += len(of.paths)
	}
	return n
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
