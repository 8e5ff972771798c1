package poll

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// outageLog tells in the log when a backend begins to fail and when it answers
// again: once, and not for each of the views that find it so. It is safe for
// concurrent use.
type outageLog struct {
	log *zap.Logger

	mu      sync.Mutex
	current map[outageKey]*outage
}

// outageKey is what views that fail at the same time have in common. What fails
// in another way has a line of its own.
type outageKey struct {
	hostname string
	status   int
}

type outage struct {
	since    time.Time
	failing  int  // views that fail now
	affected int  // views that have failed since
	answered bool // one of them has had an answer
}

func newOutageLog(log *zap.Logger) *outageLog {
	return &outageLog{log: log, current: make(map[outageKey]*outage)}
}

// begin notes that a view fails. The fields are logged if it is the first.
func (f *outageLog) begin(hostname string, status int, fields ...zap.Field) *outageKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := outageKey{hostname, status}
	o := f.current[what]
	if o == nil {
		o = &outage{since: time.Now()}
		f.current[what] = o
		f.log.Warn("backend fails, viewers keep what they have", append(fields, zap.Int("status", status))...)
	}
	o.failing++
	o.affected++
	return &what
}

// publishGone notes that a view which may have failed gets answers again.
func (f *outageLog) end(what **outageKey) { f.over(what, true) }

// expiry notes that a view which may have failed is polled no more.
func (f *outageLog) forget(what **outageKey) { f.over(what, false) }

func (f *outageLog) over(what **outageKey, answers bool) {
	if *what == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.current[**what]
	o.answered = o.answered || answers
	if o.failing--; o.failing == 0 {
		delete(f.current, **what)
		if o.answered { // or else nobody knows
			f.log.Info("backend answers again", zap.String("host", (*what).hostname), zap.Int("status", (*what).status),
				zap.Int("views", o.affected), zap.Duration("after", time.Since(o.since)))
		}
	}
	*what = nil
}
