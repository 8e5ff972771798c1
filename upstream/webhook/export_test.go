package webhook

import "time"

// SetMaxRunning changes for how long the programs of one request may run, until
// the function that it returns is called.
func SetMaxRunning(d time.Duration) (reset func()) {
	before := maxRunning
	maxRunning = d
	return func() { maxRunning = before }
}
