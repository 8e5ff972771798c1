package poll

import (
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// recentWrites are the newest writes that a poller has seen, for the advice about
// those that change documents at unrelated paths. It is safe for concurrent use.
type recentWrites struct {
	mu      sync.Mutex
	newest  [16]recentWrite
	next    int
	advised []string // the paths that the log has named
}

type recentWrite struct {
	hostname, path string
	at             time.Time
}

const (
	// maxAdvice limits the lines about a rule's writes: strangers choose paths.
	maxAdvice = 10
	// maxAdvisedPath is the length of a path beyond which there is no advice.
	maxAdvisedPath = 200
)

// record records a write.
func (w *recentWrites) record(hostname, path string, now time.Time) {
	if len(path) > maxAdvisedPath {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newest[w.next] = recentWrite{hostname, path, now}
	w.next = (w.next + 1) % len(w.newest)
}

// since returns the path of a write to a host that came after a time, and the
// path to name in refresh. It returns no path if there was none, if there were
// writes to several paths, which leaves it open which one counts, or if the log
// has named the path before.
func (w *recentWrites) since(hostname string, after time.Time) (path, refresh string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.newest {
		if one.hostname != hostname || !one.at.After(after) {
			continue
		}
		collection := collectionOf(one.path)
		if refresh != "" && refresh != collection {
			return "", ""
		}
		path, refresh = one.path, collection
	}
	if refresh == "" || len(w.advised) == maxAdvice || slices.Contains(w.advised, refresh) {
		return "", ""
	}
	w.advised = append(w.advised, refresh)
	return path, refresh
}

// collectionOf returns the path without the segments from the first one on that
// looks like an id: of /v1/orders/17/cancel it is /v1/orders.
func collectionOf(path string) string {
	for i := 1; i < len(path); i++ {
		segment, _, _ := strings.Cut(path[i:], "/")
		if path[i-1] == '/' && looksLikeID(trimFormat(segment)) && i > 1 {
			return path[:i-1]
		}
	}
	return path
}

// looksLikeID reports whether a path's segment looks like an id, and not like a
// name or a version of an API, such as v2.
func looksLikeID(segment string) bool {
	version := len(segment) > 1 && segment[0] == 'v' && strings.Trim(segment[1:], "0123456789") == ""
	return len(segment) > 30 || !version && strings.ContainsAny(segment, "0123456789")
}

// adviseRefresh logs, once for each path, that a change which the clock's poll has
// found follows a write to an unrelated path: refresh would have found it at once.
// The poll before the last one began at a time.
func (l *pollLoop) adviseRefresh(before time.Time) {
	v := l.view
	if _, written := v.state.writes(); v.poller.config.RefreshOff || l.polledForWrite || written.After(before) {
		return
	}
	path, refresh := v.poller.recentWrites.since(v.target.hostname, before)
	if path == "" {
		return
	}
	v.poller.log.Info("a document has changed after a write to an unrelated path, and a later poll has found that: if the write changes the document, add refresh to the rule",
		v.fields(zap.String("write", path), zap.String("add", "refresh "+refresh))...)
}
