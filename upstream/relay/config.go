package relay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/formats"
	"github.com/caddy-sse/caddy-sse/stream"
)

// Config configures a relay. Its zero value is ready for [Config.Provision].
type Config struct {
	// The format of the backend's responses: `sse`, `ndjson`, `json-seq`, `json`
	// (an array, whose elements become events as they come), `multipart`
	// (multipart/x-mixed-replace) or `lines`. Default: what the response's
	// Content-Type says; responses of other types pass unchanged.
	Format formats.Format `json:"format,omitempty"`

	// Names the events. {json.PATH} reads an event's data, and {event} is the
	// backend's own name of the event, which is also the default.
	Event string `json:"event,omitempty"`

	// A jq program that makes the data of the events from an event's data. Each
	// output is one event; without an output, the event is left out. Data that is
	// no JSON, such as [DONE], passes unchanged. Default: all passes unchanged.
	Select string `json:"select,omitempty"`

	// A jq program that makes the data of a last event `complete` from
	// {"count", "elapsed", "event", "last"}: the number of events, the
	// milliseconds since the request, and the last event's name and data. It runs
	// at the end of a response. A GET that the backend answers with an event
	// stream has no end: for it, the program runs after each event, and the first
	// output that is neither null nor false ends the stream. Default: event
	// streams end without such an event, and the others with `{}`.
	Complete string `json:"complete,omitempty"`

	// Lets viewers whose requests are equal, credentials included, share one
	// response of the backend. Default: false.
	Share bool `json:"share,omitempty"`

	// Selects the events that a viewer receives first who shares a response which
	// has begun:
	// `all` that the history still holds, the `last` events, or `none`.
	// Default: all.
	Replay string `json:"replay,omitempty"`

	// The number of events of `replay last`.
	ReplayLast int `json:"replay_last,omitempty"`

	// How long the module reads a response that no viewer reads any more.
	// Default: 60s; negative: not at all.
	Detach caddy.Duration `json:"detach,omitempty"`

	// How long the module remembers a response that has ended, for viewers who
	// have not received all of it. Default: 5m.
	Keep caddy.Duration `json:"keep,omitempty"`

	// How far a response that viewers don't share may be ahead of its viewer
	// before the module stops reading it. Default: 16777216 (16 MiB), and at
	// most a quarter of the hub's history.
	MaxAhead int64 `json:"max_ahead,omitempty"`

	// Limits the size of one event, in bytes. A larger one breaks the response
	// off. Default: 4194304 (4 MiB).
	MaxEvent int64 `json:"max_event,omitempty"`

	// Limits the body of a POST, in bytes. Default: 1048576 (1 MiB).
	MaxRequest int64 `json:"max_request,omitempty"`

	// Limits how many responses the module reads at a time, of the rule and per
	// client address. Defaults: 1000 and 100.
	MaxResponses          int `json:"max_responses,omitempty"`
	MaxResponsesPerClient int `json:"max_responses_per_client,omitempty"`

	// Sends an event of this name first in response to a POST. Its data
	// {"url": …} is the URL from which the viewer can resume the stream with a
	// GET, as the header Content-Location is. Default: only the header.
	ResumeEvent string `json:"resume_event,omitempty"`

	// Scope identifies the rule and its options. AddressDecides says that
	// handlers may decide by the client's address. MaxAheadEvents is like
	// MaxAhead in events. The rule sets them before [Config.Provision].
	Scope          string `json:"-"`
	Place          string `json:"-"` // of the rule, without its options
	AddressDecides bool   `json:"-"`
	MaxAheadEvents int    `json:"-"`

	shape *shape
}

const (
	replayAll  = "all"
	replayLast = "last"
	replayNone = "none"
)

// Validate returns the first error of the configuration. It changes nothing.
func (c *Config) Validate() error {
	replayErr := checkReplay(c.Replay, c.ReplayLast)
	switch {
	case replayErr != nil:
		return replayErr
	case c.Format != "" && !slices.Contains(formats.All, c.Format):
		return errFormat(c.Format)
	case c.Replay != "" && !c.Share:
		return fmt.Errorf("replay is for viewers who share a response: add share, or leave out replay")
	case c.Keep < 0 || c.MaxAhead < 0 || c.MaxEvent < 0 || c.MaxRequest < 0 || c.MaxResponses < 0 || c.MaxResponsesPerClient < 0:
		return fmt.Errorf("the limits of a relay can't be negative")
	}
	if c.ResumeEvent != "" {
		if err := event.CheckName(c.ResumeEvent); err != nil {
			return err
		}
		if slices.Contains(stream.ReservedNames, c.ResumeEvent) {
			return fmt.Errorf("resume_event %q is the name of another event: use another name, such as resume", c.ResumeEvent)
		}
	}
	_, err := newShape(c)
	return err
}

func errFormat(f formats.Format) error {
	return fmt.Errorf("format %q is unknown: want sse, ndjson, json-seq, json, multipart or lines", f)
}

func checkReplay(replay string, last int) error {
	switch {
	case !slices.Contains([]string{"", replayAll, replayLast, replayNone}, replay):
		return fmt.Errorf("replay %q is unknown: write replay all, replay last 10 or replay none", replay)
	case (replay == replayLast) != (last > 0):
		return errors.New("replay last needs the number of events: write for example replay last 10")
	}
	return nil
}

// Provision validates the configuration and sets the defaults.
func (c *Config) Provision() (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	c.Replay = cmp.Or(c.Replay, replayAll)
	c.Detach = cmp.Or(c.Detach, caddy.Duration(time.Minute))
	c.Keep = cmp.Or(c.Keep, caddy.Duration(5*time.Minute))
	c.MaxAhead = cmp.Or(c.MaxAhead, 16<<20)
	c.MaxAheadEvents = cmp.Or(c.MaxAheadEvents, 5000)
	c.MaxEvent = cmp.Or(c.MaxEvent, 4<<20)
	c.MaxRequest = cmp.Or(c.MaxRequest, 1<<20)
	c.MaxResponses = cmp.Or(c.MaxResponses, 1000)
	c.MaxResponsesPerClient = cmp.Or(c.MaxResponsesPerClient, 100)
	c.shape, err = newShape(c)
	return err
}
