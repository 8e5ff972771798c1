package webhook

import "time"

// SetMaxProgramTime changes how long the programs of one request may run, until
// the test calls the function that it returns.
func SetMaxProgramTime(d time.Duration) (reset func()) {
	before := maxProgramTime
	maxProgramTime = d
	return func() { maxProgramTime = before }
}
