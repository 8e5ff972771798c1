package poll

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/internal/markup"
	"github.com/caddy-sse/caddy-sse/jq"
)

// Config configures polling. Its zero value is ready for [Config.Provision].
type Config struct {
	// The time from the start of one poll to the start of the next, while the
	// view has viewers and the document changes. The module adds a jitter of
	// 2%. Default: 2s; minimum: 100ms.
	Interval caddy.Duration `json:"interval,omitempty"`

	// Limits the pause between two polls while the document doesn't change.
	// Each poll without a change makes the pause half as long again; a change
	// resets it to the interval. Default: the interval, which also is what
	// zero means.
	Max caddy.Duration `json:"max,omitempty"`

	// How long the backend may take for one poll before it counts as failed.
	// `select`, `until` and the comparison of a changed document may take as
	// long again; if the comparison takes longer, the whole document is sent.
	// Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long the module polls after the last viewer has left, so that a
	// client that reconnects gets the document at once. Default: 30s; a
	// negative value ends polling at once.
	Linger caddy.Duration `json:"linger,omitempty"`

	// Limits the size of the document, in bytes. Default: 10485760 (10 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// Limits the bytes that all views of the rule together keep of their
	// documents: the newest document as an event and, with `absorb`, the
	// response. A client whose request needs a view that doesn't fit gets 503;
	// a document that has grown beyond the limit counts as a failed poll.
	// Default: 536870912 (512 MiB), or eight times max_body if that is more.
	MaxMemory int64 `json:"max_memory,omitempty"`

	// Limits the views that the rule polls at a time. There is one view per
	// URL and viewer; viewers with the same credentials share it. A client
	// whose request needs one more view gets 503. Default: 10000.
	MaxViews int `json:"max_views,omitempty"`

	// Limits the views that one client may create. A client is an IPv4
	// address or an IPv6 /64 network. A client whose request needs one more
	// view gets 429. Default: 1000.
	MaxViewsPerClient int `json:"max_views_per_client,omitempty"`

	// Limits the polls of the rule that are in flight at a time, authorization
	// checks included. Further polls wait for a slot. Clients, paths and hosts
	// share the slots: one client has at most half of them, one path of a host
	// two thirds, one host 95 %, each rounded up. Default: 100.
	MaxInFlight int `json:"max_in_flight,omitempty"`

	// Sets what viewers receive when the document changes. New viewers receive
	// the whole document; with `jq`, see `first`.
	//
	// - `full` (the default): the whole document, in an unnamed event
	// - `patch`: a JSON Patch (RFC 6902), in the event `patch`
	// - `merge`: a JSON merge patch (RFC 7396), in the event `merge`
	// - `items`: the changed items of a list, in the events `removed`,
	//   `changed` and `added`
	// - `jq`: the outputs of a program over the old and the new document
	//
	// The module sends the whole document if the mode can't express the change,
	// or if the patch would be no smaller, but with `jq` only if `first` is
	// `document`.
	Send string `json:"send,omitempty"`

	// Sets the argument of `send`. For `items`, it is the member that
	// identifies an item, such as `id`. For `jq`, it is a program over
	// {"old": …, "new": …}; its outputs are objects with the member `data`
	// and, for a named event, `event`. An output with the name `complete`
	// finishes the document, as `until` does.
	SendArgument string `json:"send_argument,omitempty"`

	// Sets what new viewers receive if `send` is `jq`:
	//
	// - `program` (the default): what the program makes of {"old": null, "new": …}.
	//   No event holds a document that the program doesn't send
	// - `nothing`: events of changes only
	// - `document`: the whole document, and the module sends it again if the
	//   program fails or the document ends a `stale`
	First string `json:"first,omitempty"`

	// Sets a jq program that selects the part of the document to send. The
	// module ignores changes outside of that part. Default: the whole document.
	Select string `json:"select,omitempty"`

	// Sets what a successful response has to be; any other is a failed poll, such
	// as a login page or an error page with status 200.
	//
	// - `json`: one JSON text, of any media type
	// - `html`: text/html or application/xhtml+xml
	// - a media type such as `text/csv`, or a range such as `image/*`; a response
	//   without Content-Type has the type that its bytes show
	//
	// Default: the type of the view's first document, if that had one. If the
	// first was JSON, all have to be. `*/*` admits all types; a response with a
	// JSON type has to be JSON in any case.
	Expect string `json:"expect,omitempty"`

	// Sets a CSS selector that selects the elements of an HTML or XML document to
	// send, each on a line of its own. The module ignores changes outside of them.
	// A document without such an element counts as a failed poll. Names of XML
	// elements are compared without case and have their prefixes: dc\:date.
	// Excludes `select`, `until`, and `send` other than `full`. Default: the whole
	// document.
	SelectCSS string `json:"select_css,omitempty"`

	// Sets regular expressions (RE2) for text that changes without meaning, such
	// as a form's token: the module ignores what matches when it compares two
	// documents, after `select`. The document is sent with that text. Default: all
	// text counts.
	IgnoreText []string `json:"ignore_text,omitempty"`

	// How long a document that was there may be answered with 404 until it is
	// gone: viewers receive `stale`, and `gone` only with the first poll after
	// this time without any other response. 410 is final at once. Default: 0, the
	// first 404 is final.
	GoneAfter caddy.Duration `json:"gone_after,omitempty"`

	// Opens streams of documents that aren't there yet: viewers of a document
	// that is answered with 404 receive `stale`, and the document as soon as it is
	// there. Default: false, such a viewer gets the 404.
	Wait bool `json:"wait,omitempty"`

	// Sets a jq program over the backend's document that decides whether the
	// document is finished. If the last output is neither false nor null,
	// viewers receive the event `complete` and their streams end. If that output
	// is an object, it is the event's data, otherwise they are {}. A client
	// that reconnects gets 204, which stops an EventSource. Default: never.
	Until string `json:"until,omitempty"`

	// Sets the headers that separate viewers, in place of all headers that may
	// hold a credential. Viewers whose requests have the same values share a
	// view, and polls send no other such header. `Cookie:session` names a
	// single cookie. `none`, which must be the only value, names no header:
	// all viewers get the document that the backend shows without
	// credentials. Users authenticated by Caddy and client certificates
	// separate viewers in any case.
	Vary []string `json:"vary,omitempty"`

	// Sets headers that say nothing about who asks, such as "X-Shop-Visit" or
	// "X-Shop-*". Polls don't send them, and they separate no viewers, unless
	// the backend's Vary names them. A pattern matches no header whose name may
	// be a credential's. Always ignored are headers that number requests, such
	// as X-Request-Id.
	Ignore []string `json:"ignore,omitempty"`

	// Decides whether polls for viewers without credentials send back the
	// cookies that the backend sets, so that not every poll begins a session.
	// They keep a session's cookies for a minute at most. Viewers get none.
	//
	// - `on`: they do
	// - `off`: they don't
	//
	// Default: they do, unless the request has something else that may be a
	// credential: a header beside the usual ones, or a parameter such as
	// `token` in the query.
	CookieJar string `json:"cookie_jar,omitempty"`

	// Lets all viewers who may read a document share one view of it,
	// regardless of their Authorization and Cookie headers, the user
	// authenticated by Caddy, their client certificate and their address.
	//
	// - `checked`: the backend authorizes each new viewer, and polls carry the
	//   credentials of the viewers in turn; a viewer whom the backend refuses
	//   loses the stream
	// - `unchecked`: the backend authorizes only the viewer whose request a
	//   poll repeats
	//
	// All other headers still separate viewers, unless `vary` names those that
	// do. Default: viewers share a view if their credentials are the same. If
	// a response says Cache-Control: public and has no Set-Cookie, the default
	// is `checked`, unless the rule has `vary`.
	Share string `json:"share,omitempty"`

	// Sets the Accept header of polls, such as "application/vnd.api+json".
	// Viewers with different Accept headers then share a view. Default: the
	// viewer's own without text/event-stream; if nothing is left, and with
	// absorb, "application/json, application/*+json;q=0.9, application/*;q=0.8,
	// text/*;q=0.5".
	Accept string `json:"accept,omitempty"`

	// Answers ordinary GET and HEAD requests for a polled document from the
	// last poll. That response must be no older than the interval, and no
	// unsafe request may have invalidated it since. Requests with no-cache in
	// Cache-Control or Pragma go to the backend. The Accept header no longer
	// separates viewers: polls ask for JSON, or as accept says. Default: false.
	Absorb bool `json:"absorb,omitempty"`

	// Sets the method of the requests that open streams: GET (the default), or
	// POST for queries such as those of GraphQL and JSON-RPC. Polls of a POST
	// repeat the viewer's body, so the query must have no side effects.
	Method string `json:"method,omitempty"`

	// Sets the body of polls with the method POST. GET requests open the streams
	// then, so that an EventSource can, and POST requests don't. Polls send it
	// as it is, with the Content-Type of the viewer's request; by default
	// application/json if it is JSON, otherwise application/x-www-form-urlencoded.
	// Default: empty, the body of the viewer's own POST.
	Body string `json:"body,omitempty"`

	// Limits the body of a POST that opens a stream, in bytes. The module
	// refuses a longer body with 413. Default: 65536 (64 KiB).
	MaxRequest int64 `json:"max_request,omitempty"`

	// Sets the name of the events that hold whole documents. Where a program makes
	// all events (see `first`), it names those to which the program gives no name.
	// Placeholders {json.PATH} read the event's data, by GJSON path. If the result is no
	// valid event name, the event is unnamed. Default: unnamed, which a
	// browser's onmessage receives.
	Event string `json:"event,omitempty"`

	// Sets further paths. A successful unsafe request to one of them, or below
	// it, polls all views of the rule at once. Such a request to a view's own
	// path, above it or below it polls that view in any case.
	Refresh []string `json:"refresh,omitempty"`

	// Decides whether the backend is asked about each viewer's own address. The
	// polls of viewers without credentials carry none.
	//
	// - `on`: a viewer whose address has not been checked for a minute causes a
	//   request of its own before its stream begins, and gets the response if
	//   that is a refusal
	// - `off`: no such request
	//
	// Default: `on` if a matcher or handler behind the rule may decide by address,
	// or if the module can't tell; otherwise `off`.
	CheckAddresses string `json:"check_addresses,omitempty"`

	// Names further requests that are writes, and requests that aren't. By
	// default, requests with unsafe methods are writes.
	Writes []*WriteRule `json:"writes,omitempty"`

	// Makes writes of those requests only that `refresh` and `writes` name.
	// Default: false.
	WritesOnly bool `json:"writes_only,omitempty"`

	// Turns invalidation off: unsafe requests cause no poll. Default: false.
	RefreshOff bool `json:"refresh_off,omitempty"`

	// Ignores Cache-Control: max-age of responses. By default, the next poll
	// waits until the response is no longer fresh. Invalidation polls at once
	// in any case.
	IgnoreMaxAge bool `json:"ignore_max_age,omitempty"`

	// AddressDecides is the default of CheckAddresses.
	AddressDecides bool `json:"-"`

	// Scope separates the rule's views from those of other rules on the hub,
	// whose handlers and selection may differ. A rule should keep its scope
	// across reloads.
	Scope string `json:"-"`

	// Leases are the leases of the hub's topics. All pollers that publish on one
	// hub share them. Default: leases of this poller alone.
	Leases *TopicLeases `json:"-"`

	mode             *diff.Mode
	varyBy           *varyBy
	ignoredHeaders   *ignoredHeaders
	eventName        *eventName
	selection, until *jq.Program
	expected         expectation
	elements         *markup.Selector
	ignored          []*regexp.Regexp
}

// The values of [Config].Share.
const (
	shareChecked   = "checked"
	shareUnchecked = "unchecked"
)

// The values of [Config].CookieJar.
const (
	jarOn  = "on"
	jarOff = "off"
)

// The values of [Config].CheckAddresses.
const (
	checkOn  = "on"
	checkOff = "off"
)

// minInterval protects backends from a mistyped interval.
const minInterval = 100 * time.Millisecond

// Validate returns the error that Provision would return. It doesn't change c.
func (c *Config) Validate() error {
	unused := *c
	return unused.Provision()
}

// Provision sets the defaults, validates the values and compiles the programs.
func (c *Config) Provision() error {
	c.Interval = cmp.Or(c.Interval, caddy.Duration(2*time.Second))
	c.Max = cmp.Or(c.Max, c.Interval)
	c.Timeout = cmp.Or(c.Timeout, caddy.Duration(10*time.Second))
	c.Linger = cmp.Or(c.Linger, caddy.Duration(30*time.Second))
	c.MaxBody = cmp.Or(c.MaxBody, 10<<20)
	c.MaxMemory = cmp.Or(c.MaxMemory, max(512<<20, 8*c.MaxBody))
	c.MaxViews = cmp.Or(c.MaxViews, 10000)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 100)
	c.MaxViewsPerClient = cmp.Or(c.MaxViewsPerClient, 1000)
	c.MaxRequest = cmp.Or(c.MaxRequest, 64<<10)
	c.Method = cmp.Or(c.Method, http.MethodGet)
	c.Send = cmp.Or(c.Send, "full")
	if c.Send == "jq" {
		c.First = cmp.Or(c.First, firstProgram)
	}
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
		return fmt.Errorf("poll: max %v is shorter than the interval %v: use a longer max, or leave it out", time.Duration(c.Max), time.Duration(c.Interval))
	case c.GoneAfter < 0:
		return fmt.Errorf("poll: gone_after %v is negative: use a duration such as 30s", time.Duration(c.GoneAfter))
	case c.Timeout < 0 || c.MaxBody < 0 || c.MaxMemory < 0 || c.MaxViews < 0 || c.MaxViewsPerClient < 0 || c.MaxInFlight < 0 || c.MaxRequest < 0:
		return errors.New("poll: timeout, max_body, max_memory, max_views, max_views_per_client, max_in_flight and max_request must not be negative")
	case c.MaxMemory < c.MaxBody:
		return fmt.Errorf("poll: max_memory %d is less than max_body %d, so that a document may not fit: raise max_memory, or lower max_body", c.MaxMemory, c.MaxBody)
	case c.Method != http.MethodGet && c.Method != http.MethodPost:
		return fmt.Errorf("poll: method %q is not supported: use GET or POST", c.Method)
	case c.Body != "" && c.Method != http.MethodPost:
		return errors.New("poll: body is sent by POST: add method POST, or remove body")
	case int64(len(c.Body)) > c.MaxRequest:
		return fmt.Errorf("poll: body has %d bytes, which is more than max_request: raise max_request", len(c.Body))
	case c.Absorb && c.Method != http.MethodGet:
		return errors.New("poll: absorb works with method GET only: remove method POST or absorb")
	case c.Share != "" && c.Share != shareChecked && c.Share != shareUnchecked:
		return fmt.Errorf("poll: unknown share %q: use %s or %s", c.Share, shareChecked, shareUnchecked)
	case c.CookieJar != "" && c.CookieJar != jarOn && c.CookieJar != jarOff:
		return fmt.Errorf("poll: unknown cookie_jar %q: use %s or %s", c.CookieJar, jarOn, jarOff)
	case c.CheckAddresses != "" && c.CheckAddresses != checkOn && c.CheckAddresses != checkOff:
		return fmt.Errorf("poll: unknown check_addresses %q: use %s or %s", c.CheckAddresses, checkOn, checkOff)
	case c.First != "" && c.Send != "jq":
		return fmt.Errorf("poll: first says what new viewers get with send jq; with send %s they get the document: remove first", c.Send)
	case c.First != "" && c.First != firstDocument && c.First != firstProgram && c.First != firstNothing:
		return fmt.Errorf("poll: unknown first %q: use %s, %s or %s", c.First, firstDocument, firstProgram, firstNothing)
	case c.SelectCSS != "" && c.Select != "":
		return errors.New("poll: select and select css exclude each other: select is a jq program for JSON, select css a selector for HTML and XML")
	case c.SelectCSS != "" && (c.Send != "full" || c.Until != ""):
		return errors.New("poll: send and until need JSON, which select css doesn't give: remove them, or select css")
	}
	return c.checkWrites()
}

func (c *Config) compile() (err error) {
	if err = c.checkAccept(); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.mode, err = diff.NewMode(c.Send, c.SendArgument); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.varyBy, err = newVaryBy(c.Vary, c.Share != ""); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.ignoredHeaders, err = newIgnored(c.Ignore, c.varyBy); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.eventName, err = newEventName(c.Event); err != nil {
		return fmt.Errorf("poll: event: %w", err)
	}
	if c.expected, err = newExpectation(c.Expect); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if option := c.readsJSON(); option != "" && !c.expected.mayBeJSON() {
		return fmt.Errorf("poll: %s reads JSON, which expect %s excludes: remove one of the two", option, c.Expect)
	}
	if c.SelectCSS != "" && (c.expected.json || mediaType{name: c.expected.media}.isJSON()) {
		return fmt.Errorf("poll: select css reads HTML and XML, which expect %s excludes: remove one of the two", c.Expect)
	}
	if c.selection, err = jq.CompileOptional(c.Select); err != nil {
		return fmt.Errorf("poll: select: %w", err)
	}
	if c.SelectCSS != "" {
		if c.elements, err = markup.Compile(c.SelectCSS); err != nil {
			return fmt.Errorf("poll: select css: %w", err)
		}
	}
	if c.ignored, err = compileIgnored(c.IgnoreText); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if c.until, err = jq.CompileOptional(c.Until); err != nil {
		return fmt.Errorf("poll: until: %w", err)
	}
	return nil
}

// readsJSON returns an option that has no meaning for other documents than JSON;
// empty if none is set.
func (c *Config) readsJSON() string {
	switch {
	case c.Select != "":
		return "select"
	case c.Until != "":
		return "until"
	case c.Send != "full":
		return "send " + c.Send
	default:
		return ""
	}
}

// StreamMethod returns the method of the requests that open streams.
func (c *Config) StreamMethod() string {
	if c.Body != "" {
		return http.MethodGet
	}
	return c.Method
}

// bodyType returns the media type of Body.
func (c *Config) bodyType() string {
	if json.Valid([]byte(c.Body)) {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

// checksAddresses reports whether the backend is asked about each viewer's own
// address.
func (c *Config) checksAddresses() bool {
	return c.CheckAddresses == checkOn || c.CheckAddresses == "" && c.AddressDecides
}

// refreshedBy reports whether an unsafe request to one of the paths invalidates
// all views of the rule.
func (c *Config) refreshedBy(paths []string) bool {
	for _, refresh := range c.Refresh {
		for _, path := range paths {
			if within(path, refresh) {
				return true
			}
		}
	}
	return false
}
