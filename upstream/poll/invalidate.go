package poll

import (
	"strings"
	"time"
)

// Invalidate makes views be polled at once, after a request that has changed
// these paths of a host: the views of the paths, of their parents and of their
// children, and all views if the rule's refresh option names one of the paths. A
// poll that is under way doesn't count, since it may have missed the change.
func (p *Poller) Invalidate(hostname string, paths ...string) {
	p.InvalidateBy(RelatedViews, hostname, paths...)
}

// InvalidateBy is Invalidate for a request with an effect.
func (p *Poller) InvalidateBy(e Effect, hostname string, paths ...string) {
	if e == NoViews || p.config.RefreshOff && !p.config.Absorb {
		return
	}
	if len(paths) > 0 {
		p.recentWrites.record(hostname, paths[0], time.Now())
	}
	all := e == AllViews || p.config.refreshedBy(paths)
	p.finished.forget(hostname, paths, all)
	see := func(v *view) { v.loop.refresh() }
	if p.config.RefreshOff { // don't poll, but the stored response is too old to be absorbed
		see = func(v *view) { v.state.recordWrite() }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if all {
		for _, v := range p.views {
			if v.target.hostname == hostname {
				see(v)
			}
		}
		return
	}
	for _, path := range paths {
		p.byPath.related(hostname, path, see)
	}
}

// within reports whether path is parent or below it. A suffix that names a format
// doesn't count.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(trimFormat(strings.TrimSuffix(path, "/")), trimFormat(strings.TrimSuffix(parent, "/")))
	return ok && (rest == "" || rest[0] == '/')
}
