package poll

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// outageLog logs when a backend begins to fail and when it responds again: once,
// and not for each view that notices. It is safe for concurrent use.
type outageLog struct {
	log *zap.Logger

	mu      sync.Mutex
	current map[outageKey]*outage
}

// outageKey is what views that fail in the same way have in common.
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

// begin records that a view's polls fail. It logs the fields for the first view.
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

// end records that a view gets responses again.
func (f *outageLog) end(what **outageKey) { f.over(what, true) }

// forget records that a view which may have failed is polled no more.
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
