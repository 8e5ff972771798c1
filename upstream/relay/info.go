package relay

import (
	"slices"
	"time"
)

// Totals sums up the feeds of a rule.
type Totals struct {
	Running, Ended, Viewers, Stale int
}

// Totals returns the sums by rule name, also of rules without feeds.
func (s *Feeds) Totals() map[string]Totals {
	totals := make(map[string]Totals)
	s.mu.Lock()
	for name := range s.rules {
		totals[name] = Totals{}
	}
	s.mu.Unlock()
	for _, f := range s.all() {
		t := totals[f.rule]
		f.addTo(&t)
		totals[f.rule] = t
	}
	return totals
}

func (f *feed) addTo(t *Totals) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Viewers += f.viewers
	if f.over {
		t.Ended++
		return
	}
	t.Running++
	if f.failing {
		t.Stale++
	}
}

// Info describes a feed. It holds no credential, no token and no query.
type Info struct {
	Rule   string `json:"rule"`
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Shared bool   `json:"shared"`
	// Standing says that the configuration names the feed.
	Standing bool      `json:"standing,omitempty"`
	Viewers  int       `json:"viewers"`
	Events   int       `json:"events"`
	Began    time.Time `json:"began"`
	// State is waiting (for the backend's response), running, stale, detached
	// (without viewers), complete or broken_off.
	State string `json:"state"`
}

// List returns the feeds, the oldest first.
func (s *Feeds) List() []Info {
	feeds := s.all()
	list := make([]Info, len(feeds))
	for i, f := range feeds {
		list[i] = f.info()
	}
	slices.SortFunc(list, func(a, b Info) int { return a.Began.Compare(b.Began) })
	return list
}

func (f *feed) info() Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Info{
		Rule: f.rule, Method: f.request.method, Host: f.request.host, Path: f.request.url.EscapedPath(), Shared: f.request.shared != nil,
		Viewers: f.viewers, Events: f.published, Began: f.began.UTC().Truncate(time.Millisecond), State: f.stateLocked(),
	}
}

func (f *feed) stateLocked() string {
	switch {
	case f.over && f.complete:
		return "complete"
	case f.over:
		return "broken_off"
	case !f.relayed:
		return "waiting"
	case f.viewers == 0:
		return "detached"
	case f.failing:
		return "stale"
	default:
		return "running"
	}
}
