package poll

import "time"

// followUps are the pauses before the polls that follow one which a write has
// caused: the write's effect may come after its response, from a queue for
// example, or the poll may have read a replica that lags. With a fast backend they
// are 0.3, 1 and 3 s after the first one. The first change ends them.
var followUps = [...]time.Duration{300 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second}

// aftermath is the time after a write in which the document may still change. Its
// zero value is over.
type aftermath struct {
	looking bool
	done    int       // follow-ups that were made
	due     time.Time // when the next one is due; zero before the poll that the write has caused
}

// begin begins with the poll that a write causes.
func (a *aftermath) begin() { *a = aftermath{looking: true} }

// polled records a poll without a change, which has started at a time and ended
// now.
func (a *aftermath) polled(started, now time.Time, jitter float64) {
	switch {
	case !a.looking, started.Before(a.due): // the clock has caused it
	case a.done == len(followUps):
		*a = aftermath{}
	default:
		a.due = now.Add(withJitter(followUps[a.done], jitter))
		a.done++
	}
}

const (
	// writePollBurst is how many polls of a view writes may cause at once.
	writePollBurst = 10
	// writePollEvery is how much later each further one is.
	writePollEvery = 500 * time.Millisecond
)

// writePolls bounds the polls of a view that writes cause, follow-ups included,
// however many writes strangers send. Its zero value permits a burst.
type writePolls struct{ full time.Time } // when it permits a whole burst again

// wait returns how long no poll is permitted.
func (b *writePolls) wait(now time.Time) time.Duration {
	return max(b.full.Add(-(writePollBurst-1)*writePollEvery).Sub(now), 0)
}

// spend counts a poll.
func (b *writePolls) spend(now time.Time) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(writePollEvery)
}
