package access

import "time"

// Outcome is what a question to the backend has come to.
type Outcome string

// The outcomes.
const (
	Allowed   Outcome = "granted"
	Refused   Outcome = "refused"
	Failed    Outcome = "failed" // the backend can't tell, or nothing answers
	Coalesced Outcome = "shared" // it was somebody else's question, too
)

// Outcomes are all of them.
var Outcomes = []Outcome{Allowed, Refused, Failed, Coalesced}

// Observer is told what is asked. It must be safe for concurrent use, and quick.
type Observer interface {
	// Checked is called when a question has an answer. It took so long, its turn
	// included; one that is shared took no time of its own. A question
	// whose answer nobody waits for any more is not told of.
	Checked(o Outcome, took time.Duration)
	// Rechecked is called when a stream that is open is asked about again.
	Rechecked()
}

type noopObserver struct{}

func (noopObserver) Checked(Outcome, time.Duration) {}
func (noopObserver) Rechecked()                     {}

func (a *decision) outcome() Outcome {
	switch {
	case a.refused != nil:
		return Refused
	case a.failure != nil, a.err != nil:
		return Failed
	default:
		return Allowed
	}
}
