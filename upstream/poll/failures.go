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

// outageKey identifies an outage: views with the same key fail in the same way.
type outageKey struct {
	hostname string
	status   int
}

type outage struct {
	since     time.Time
	failing   int  // views that fail now
	affected  int  // views that have failed since the start
	recovered bool // the backend has responded to one of them
}

func newOutageLog(log *zap.Logger) *outageLog {
	return &outageLog{log: log, current: make(map[outageKey]*outage)}
}

// begin records that a view's polls fail. It logs the fields for the first view.
func (f *outageLog) begin(hostname string, status int, fields ...zap.Field) *outageKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := outageKey{hostname, status}
	o := f.current[key]
	if o == nil {
		o = &outage{since: time.Now()}
		f.current[key] = o
		f.log.Warn("backend fails, viewers keep the last document", append(fields, zap.Int("status", status))...)
	}
	o.failing++
	o.affected++
	return &key
}

// end records that a view gets responses again.
func (f *outageLog) end(key **outageKey) { f.over(key, true) }

// forget records that polling of a view ends, whether it failed or not.
func (f *outageLog) forget(key **outageKey) { f.over(key, false) }

func (f *outageLog) over(key **outageKey, responds bool) {
	if *key == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.current[**key]
	o.recovered = o.recovered || responds
	if o.failing--; o.failing == 0 {
		delete(f.current, **key)
		if o.recovered { // else all views were abandoned: the state is unknown
			f.log.Info("backend has recovered", zap.String("host", (*key).hostname), zap.Int("status", (*key).status),
				zap.Int("views", o.affected), zap.Duration("after", time.Since(o.since)))
		}
	}
	*key = nil
}
