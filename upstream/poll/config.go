package poll

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/jq"
)

// Config is how a rule polls. Its zero value is ready for [Config.Provision].
type Config struct {
	// How long from the start of one poll to the start of the next, give or
	// take a fiftieth, while somebody watches and the document changes. Default:
	// 2s; at least 100ms.
	Interval caddy.Duration `json:"interval,omitempty"`

	// How long the pause between two polls may become while the document
	// doesn't change: it grows by half with each poll, and is the interval
	// again at the first change. Default, and what zero means: the interval.
	Max caddy.Duration `json:"max,omitempty"`

	// How long one poll may take until it counts as failed. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long a view that nobody watches any more is still polled, so that
	// a client which reconnects finds it warm. Default: 30s; negative: not
	// at all.
	Linger caddy.Duration `json:"linger,omitempty"`

	// How many bytes the document may have. Default: 10485760 (10 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// How many views the rule may poll at a time: one per URL and viewer,
	// where viewers with the same credentials count once. A client that
	// asks for one more gets 503. Default: 10000.
	MaxViews int `json:"max_views,omitempty"`

	// How many of those views one client may have brought about, by its
	// address, of which for IPv6 the first 64 bits count. One that asks for
	// one more gets 429. Default: 1000.
	MaxViewsPerClient int `json:"max_views_per_client,omitempty"`

	// How many polls of the rule may be under way at a time; others wait for
	// their turn. Default: 100.
	MaxInFlight int `json:"max_in_flight,omitempty"`

	// What is sent when the document has changed, beside the whole document
	// that each new viewer gets:
	//
	// - `full` (the default): the whole document, unnamed
	// - `patch`: a JSON Patch (RFC 6902), event `patch`
	// - `merge`: a JSON merge patch (RFC 7396), event `merge`
	// - `items`: what has become of the items of a list, events `removed`,
	//   `changed` and `added`
	// - `jq`: what a program makes of the old and the new document
	//
	// What can't be said in that way, and a patch that would be no smaller,
	// is sent as the whole document.
	Send string `json:"send,omitempty"`

	// What `send` needs: for `items` the member that tells items apart, such
	// as `id`; for `jq` a program over {"old": …, "new": …} whose outputs are
	// objects with `data` and, if the event shall have a name, `event`.
	SendArgument string `json:"send_argument,omitempty"`

	// A jq program that picks the part of the document that counts: it is
	// what is sent, and what it leaves out is no change. Default: all of it.
	Select string `json:"select,omitempty"`

	// A jq program over the backend's document that tells when it is
	// finished: then `event: complete` is sent, the streams end, and a client
	// that comes back gets 204, which ends an EventSource for good. Default:
	// never.
	Until string `json:"until,omitempty"`

	// The headers that tell viewers apart, in the place of all that may hold a
	// credential: viewers whose requests have the same values share a view,
	// and a poll carries no other such header. `Cookie:session` is a single
	// cookie; `none` alone stands for no header at all, so that everybody gets
	// what the backend shows to those who have no credentials. A user whom
	// Caddy has authenticated, and a client certificate, tell viewers apart in
	// any case.
	Vary []string `json:"vary,omitempty"`

	// Whether all who may see a document share one view of it, whatever their
	// Authorization and Cookie, the user whom Caddy has authenticated, their
	// client certificate and address:
	//
	// - `checked`: the backend is asked about each new viewer as themselves,
	//   and polls are made as the viewers in turn; whom it refuses loses the
	//   stream
	// - `unchecked`: nobody is asked about
	//
	// Every other header still tells viewers apart, unless `vary` says which
	// do. Default: viewers share only if their credentials are the same, or
	// the backend says Cache-Control: public, without Set-Cookie, which is
	// taken for `checked` unless the rule has `vary`.
	Share string `json:"share,omitempty"`

	// Whether ordinary GET and HEAD requests for a document that is watched are
	// answered from its last poll, if that is no older than the interval and
	// no write has been seen since. Requests whose Cache-Control or Pragma
	// says no-cache go to the backend. The header Accept doesn't tell viewers
	// apart any more: polls ask for JSON.
	Absorb bool `json:"absorb,omitempty"`

	// The method of the requests that are watched: GET (the default) or POST,
	// for queries such as GraphQL's or JSON-RPC's. With POST a poll sends the
	// viewer's body again. It must be a query: nothing may come of its being
	// repeated.
	Method string `json:"method,omitempty"`

	// How many bytes the body of a POST that is watched may have; a longer one
	// is refused with 413. Default: 65536 (64 KiB).
	MaxRequest int64 `json:"max_request,omitempty"`

	// The name of the events that hold whole documents. It may hold
	// placeholders {json.PATH} that look into the document that is sent, by
	// its GJSON path; where they come to what can't be a name, the event is
	// unnamed. Default: unnamed, which is what a browser's onmessage gets.
	Event string `json:"event,omitempty"`

	// Paths that have the rule's views polled at once when a write to them, or
	// below them, succeeds. This is in addition to the views' own paths,
	// those above and those below.
	Refresh []string `json:"refresh,omitempty"`

	// Whether writes that are seen are no reason to poll.
	RefreshOff bool `json:"refresh_off,omitempty"`

	// Whether to poll more often than the backend's Cache-Control: max-age
	// says that the document can change. A write that is seen is a reason to
	// poll in any case.
	IgnoreMaxAge bool `json:"ignore_max_age,omitempty"`

	// Scope sets the rule's views apart from those of other rules on the hub:
	// what they select, and which handlers answer them, may differ. It should
	// be the same for the same rule after a reload.
	Scope string `json:"-"`

	// TopicLeases are those of the hub's topics, shared by all pollers that publish
	// on it. Default: the poller's alone.
	Leases *TopicLeases `json:"-"`

	mode             *diff.Mode
	varyBy           *varyBy
	eventName        *eventName
	selection, until *jq.Program
}

// What [Config].Share may say.
const (
	shareChecked   = "checked"
	shareUnchecked = "unchecked"
)

// minInterval keeps a typing error from becoming a load test.
const minInterval = 100 * time.Millisecond

// Validate returns the error that Provision would return. It doesn't change c.
func (c *Config) Validate() error {
	unused := *c
	return unused.Provision()
}

// Provision fills in the defaults, checks the values and compiles programs.
func (c *Config) Provision() error {
	c.Interval = cmp.Or(c.Interval, caddy.Duration(2*time.Second))
	c.Max = cmp.Or(c.Max, c.Interval)
	c.Timeout = cmp.Or(c.Timeout, caddy.Duration(10*time.Second))
	c.Linger = cmp.Or(c.Linger, caddy.Duration(30*time.Second))
	c.MaxBody = cmp.Or(c.MaxBody, 10<<20)
	c.MaxViews = cmp.Or(c.MaxViews, 10000)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 100)
	c.MaxViewsPerClient = cmp.Or(c.MaxViewsPerClient, 1000)
	c.MaxRequest = cmp.Or(c.MaxRequest, 64<<10)
	c.Method = cmp.Or(c.Method, http.MethodGet)
	c.Send = cmp.Or(c.Send, "full")
	c.Leases = cmp.Or(c.Leases, new(TopicLeases))
	if err := c.check(); err != nil {
		return err
	}
	return c.compile()
}

func (c *Config) check() error {
	switch {
	case time.Duration(c.Interval) < minInterval:
		return fmt.Errorf("poll interval %v is too short: use %v or more", time.Duration(c.Interval), minInterval)
	case c.Max < c.Interval:
		return fmt.Errorf("poll: max %v is shorter than the interval, %v", time.Duration(c.Max), time.Duration(c.Interval))
	case c.Timeout < 0 || c.MaxBody < 0 || c.MaxViews < 0 || c.MaxViewsPerClient < 0 || c.MaxInFlight < 0 || c.MaxRequest < 0:
		return errors.New("poll: timeout, max_body, max_views, max_views_per_client, max_in_flight and max_request can't be negative")
	case c.Method != http.MethodGet && c.Method != http.MethodPost:
		return fmt.Errorf("poll: method %q can't be watched: use GET or POST", c.Method)
	case c.Absorb && c.Method != http.MethodGet:
		return errors.New("poll: absorb answers GET requests: leave out method POST, or absorb")
	case c.Share != "" && c.Share != shareChecked && c.Share != shareUnchecked:
		return fmt.Errorf("poll: share %q is unknown: use %s or %s", c.Share, shareChecked, shareUnchecked)
	case c.RefreshOff && len(c.Refresh) > 0:
		return errors.New("poll: refresh off and paths to refresh by don't go together")
	}
	for _, path := range c.Refresh {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "*") {
			return fmt.Errorf("poll: refresh %q is no path: write for example /checkout, which stands for what is below it too", path)
		}
	}
	return nil
}

func (c *Config) compile() (err error) {
	if c.mode, err = diff.NewMode(c.Send, c.SendArgument); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.varyBy, err = newVaryBy(c.Vary, c.Share != ""); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.eventName, err = newEventName(c.Event); err != nil {
		return fmt.Errorf("poll: event: %w", err)
	}
	if c.selection, err = compile(c.Select); err != nil {
		return fmt.Errorf("poll: select: %w", err)
	}
	if c.until, err = compile(c.Until); err != nil {
		return fmt.Errorf("poll: until: %w", err)
	}
	return nil
}

// compile makes no program of an empty source.
func compile(src string) (*jq.Program, error) {
	if src == "" {
		return nil, nil
	}
	return jq.Compile(src)
}

// refreshedBy tells whether one of the paths concerns all of the rule's views.
func (c *Config) refreshedBy(paths []string) bool {
	for _, concerned := range c.Refresh {
		for _, path := range paths {
			if within(path, concerned) {
				return true
			}
		}
	}
	return false
}
