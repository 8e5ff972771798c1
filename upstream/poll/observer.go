package poll

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Result is the outcome of a request to the backend.
type Result string

// The results of requests to the backend.
const (
	Changed            Result = "changed"
	Unchanged          Result = "unchanged"
	NotModified        Result = "not_modified" // the backend answered 304
	Failed             Result = "failed"
	Missing            Result = "missing" // the backend answered 404, and viewers wait
	Ended              Result = "ended"   // refused, gone, complete, or the viewers move to other views
	AuthorizationCheck Result = "asked"
)

// Results lists all results.
var Results = []Result{Changed, Unchanged, NotModified, Failed, Missing, Ended, AuthorizationCheck}

func (o outcome) result() Result { return Results[o] }

// Observer observes a poller. Its methods must return quickly and be safe for
// concurrent use.
type Observer interface {
	// Polled is called after each request to the backend.
	Polled(r Result, took time.Duration)
	// Saved is called when the events of a change are smaller than the whole
	// document, with the difference in bytes, summed over all viewers.
	Saved(bytes int64)
	// Absorbed is called after a cached response has answered an ordinary
	// request.
	Absorbed()
}

type noopObserver struct{}

func (noopObserver) Polled(Result, time.Duration) {}
func (noopObserver) Saved(int64)                  {}
func (noopObserver) Absorbed()                    {}

// pollStatus is the state of a view's polls for the admin API.
type pollStatus struct {
	polls   uint64
	status  int
	polled  time.Time
	changed time.Time
	due     time.Time
	pause   time.Duration

	delayedBy string
}

// ViewInfo describes a view. It holds no credential, and only the names of the
// query's parameters.
type ViewInfo struct {
	// View is the view key, a keyed digest.
	View string `json:"view"`
	// Method, Host and Path are those of the polled request.
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	// Query holds the names of the query's parameters, without their values.
	Query []string `json:"query,omitempty"`
	// Shared is true if all principals that may read the document share the view.
	Shared bool `json:"shared"`
	// DiffersBy is the header without which the view and another one of the URL
	// would be one, and Advice what to write if it is no reason to poll twice.
	// They are empty if there is no such view, or more than one such header.
	DiffersBy string `json:"differs_by,omitempty"`
	Advice    string `json:"advice,omitempty"`
	// Viewers is the number of open streams; 0 while the view lingers.
	Viewers int `json:"viewers"`
	// Polls is the number of polls so far.
	Polls uint64 `json:"polls"`
	// Interval is the current pause between two polls, in seconds.
	Interval float64 `json:"interval"`
	// DelayedBy names the header of the last response, Cache-Control or
	// Retry-After, that makes the next poll later than the rule would. It is
	// empty if none does.
	DelayedBy string `json:"delayed_by,omitempty"`
	// Status is the status of the last response; 502 or 504 if there was none.
	Status int `json:"status"`
	// Bytes is the size of the document.
	Bytes int `json:"bytes"`
	// Confirmed is the time of the last successful poll, Changed that of the
	// document's last change, Stale that at which the document became stale,
	// Due that of the next poll. Each is nil if there is none.
	Confirmed *time.Time `json:"confirmed,omitempty"`
	Changed   *time.Time `json:"changed,omitempty"`
	Stale     *time.Time `json:"stale,omitempty"`
	Due       *time.Time `json:"due,omitempty"`
}

// List describes each view, sorted by host and path.
func (p *Poller) List() []ViewInfo {
	list := p.infos()
	slices.SortFunc(list, func(a, b ViewInfo) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Path, b.Path), strings.Compare(a.View, b.View))
	})
	return list
}

func (p *Poller) infos() []ViewInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]ViewInfo, 0, len(p.views))
	for _, v := range p.views {
		list = append(list, v.infoLocked())
	}
	return list
}

func (v *view) infoLocked() ViewInfo {
	s := &v.state
	s.mu.Lock()
	defer s.mu.Unlock()
	info := ViewInfo{
		View:      v.key,
		Method:    v.target.method,
		Host:      v.target.host,
		Path:      v.target.path,
		Query:     v.target.queryNames(),
		Shared:    v.shared,
		Viewers:   v.viewers.streams,
		Polls:     v.state.pollStatus.polls,
		Interval:  v.state.pollStatus.pause.Seconds(),
		DelayedBy: v.state.pollStatus.delayedBy,
		Status:    v.state.pollStatus.status,
		Confirmed: nonZero(v.state.pollStatus.polled),
		Changed:   nonZero(v.state.pollStatus.changed),
		Due:       nonZero(v.state.pollStatus.due),
	}
	if v.differsBy != "" {
		info.DiffersBy, info.Advice = v.differsBy, differenceAdvice(v.differsBy)
	}
	if s.doc != nil {
		info.Bytes = len(s.doc.text)
	}
	if s.stale != nil {
		info.Stale = nonZero(s.stale.Time)
	}
	return info
}

// nonZero returns nil for the zero time.
func nonZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Totals holds sums over the views of a poller.
type Totals struct {
	Views   int
	Viewers int
	Stale   int // views whose backend fails
	// Oldest is the age of the oldest confirmed document; zero if there is
	// none.
	Oldest time.Duration
}

// Totals returns sums over the views of the poller.
func (p *Poller) Totals() Totals {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	t := Totals{Views: len(p.views)}
	for _, v := range p.views {
		t.Viewers += v.viewers.streams
		v.state.mu.Lock()
		if v.state.stale != nil {
			t.Stale++
		}
		if !v.state.pollStatus.polled.IsZero() {
			t.Oldest = max(t.Oldest, now.Sub(v.state.pollStatus.polled))
		}
		v.state.mu.Unlock()
	}
	return t
}
