package poll

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/loglimit"
)

// outageLog logs when a backend begins to fail and when it responds again: once,
// and not for each view that notices. It is safe for concurrent use.
type outageLog struct {
	log *zap.Logger

	mu      sync.Mutex
	current map[outageKey]*outage
	limits  map[string]*loglimit.Limiter // by the kind of a documentError
}

// outageKey identifies an outage: views with the same key fail in the same way.
type outageKey struct {
	hostname string
	status   int
	kind     string // of the documentError; empty if there was no document
}

type outage struct {
	since     time.Time
	failing   int  // views that fail now
	affected  int  // views that have failed since the start
	recovered bool // the backend has responded to one of them
	silent    bool // its kind was logged a short time ago
}

func newOutageLog(log *zap.Logger) *outageLog {
	return &outageLog{log: log, current: make(map[outageKey]*outage), limits: make(map[string]*loglimit.Limiter)}
}

// begin records that a view's polls fail. It logs the fields for the first view.
// A backend that breaks every third document would fill the log, so each kind of
// documentError is logged at most once a minute.
func (f *outageLog) begin(hostname string, status int, err error, fields ...zap.Field) *outageKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := outageKey{hostname: hostname, status: status}
	fields = append(fields, zap.Int("status", status), zap.Error(err))
	var broken *documentError
	if errors.As(err, &broken) {
		key.kind = broken.kind
		if broken.at >= 0 {
			fields = append(fields, zap.Int64("byte", broken.at))
		}
	}
	o := f.current[key]
	if o == nil {
		o = &outage{since: time.Now()}
		f.current[key] = o
		suppressed, allowed := f.allowLocked(key.kind)
		if o.silent = !allowed; allowed {
			if suppressed > 0 {
				fields = append(fields, zap.Int("not_logged_since", suppressed))
			}
			f.log.Warn("backend fails, viewers keep the last document", fields...)
		}
	}
	o.failing++
	o.affected++
	return &key
}

// allowLocked reports whether an outage may be logged, and how many of its kind
// were not since the last one.
func (f *outageLog) allowLocked(kind string) (suppressed int, allowed bool) {
	if kind == "" {
		return 0, true
	}
	if f.limits[kind] == nil {
		f.limits[kind] = new(loglimit.Limiter)
	}
	return f.limits[kind].Allow(time.Now())
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
		if o.recovered && !o.silent { // else all views were abandoned: the state is unknown
			f.log.Info("backend has recovered", zap.String("host", (*key).hostname), zap.Int("status", (*key).status),
				zap.Int("views", o.affected), zap.Duration("after", time.Since(o.since)))
		}
	}
	*key = nil
}
