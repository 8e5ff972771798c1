package fair

// Known returns how many holders and queues the slots remember.
func (s *Slots) Known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.holders) + len(s.queues) + s.awaited.Len()
}
