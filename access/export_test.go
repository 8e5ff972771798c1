package access

import "net/http"

const (
	CheckTimeout      = checkTimeout
	MaxChecksInFlight = maxChecksInFlight
	MaxKeptDecisions  = maxKeptDecisions
	MaxWaiters        = maxWaiters
	MaxSlotWait       = maxSlotWait
)

// Expand replaces the placeholders with values.
func (u *URITemplate) Expand(values map[string]string) (string, error) {
	return u.expand(func(name string) (string, error) { return values[name], nil })
}

// Checks returns how many checks are in flight or have a kept decision.
func (a *Authorizer) Checks() int { return a.checks.Len() }

// Entries returns how many clients, users and reservations are counted.
func (s *StreamLimiter) Entries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients) + len(s.users) + len(s.reserved) + len(s.waiting)
}

// FetchBy sets the transport that fetches the key set.
func (j *JWT) FetchBy(transport http.RoundTripper) { j.remote.client.Transport = transport }
