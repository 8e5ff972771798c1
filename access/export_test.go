package access

// What tests of the package's behaviour need to know.
const (
	AskTimeout  = checkTimeout
	OpenWait    = openTimeout
	MaxInFlight = maxChecksInFlight
	MaxShared   = maxKeptDecisions
	MaxWaiting  = maxWaiting
	GraceTime   = maxSlotWait
)

// Expand puts values in the places of their placeholders.
func (u *URITemplate) Expand(values map[string]string) (string, error) {
	return u.expand(func(name string) (string, error) { return values[name], nil })
}

// Held is how many questions and answers are kept.
func (a *Authorizer) Held() int { return a.calls.Len() }

// Known is how many clients, users and viewers are known of.
func (s *StreamLimiter) Known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients) + len(s.users) + len(s.reserved)
}
