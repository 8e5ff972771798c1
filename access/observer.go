package access

import "time"

// Outcome is the result of an authorization check.
type Outcome string

// The outcomes. Their values are labels of metrics.
const (
	Allowed   Outcome = "granted"
	Refused   Outcome = "refused"
	Failed    Outcome = "failed" // the backend fails, or doesn't respond
	Coalesced Outcome = "shared" // another check had the same subrequest
)

// Outcomes lists all outcomes.
var Outcomes = []Outcome{Allowed, Refused, Failed, Coalesced}

// Observer receives the results of authorization checks. It must be safe for
// concurrent use, and its methods must not block.
type Observer interface {
	// Checked receives a check's outcome and duration, which includes the
	// wait for a slot. The duration of a Coalesced check is zero. A check
	// that its callers abandoned is not reported.
	Checked(o Outcome, took time.Duration)
	// Rechecked is called before each further check of an open stream.
	Rechecked()
}

type noopObserver struct{}

func (noopObserver) Checked(Outcome, time.Duration) {}
func (noopObserver) Rechecked()                     {}
