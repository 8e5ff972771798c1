package relay

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/formats"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// StandingConfig configures the standing feeds of one rule. Its zero value is not
// valid: it needs a URL.
type StandingConfig struct {
	// The feeds: absolute http and https URLs, which the module requests itself, or
	// paths of the rule's own site, which go through the site's handlers. May contain
	// placeholders, for example {env.FEED_URL}. Each is read from the start of the
	// configuration on, without viewers, and connected again for ever. Rules with
	// equal options share the connection.
	URLs []string `json:"urls,omitempty"`

	// Publishes the events on this topic, to which clients subscribe through rules
	// with `topics`. {json.PATH} reads an event's data, and {event} is its name; an
	// event for which that yields no valid topic is left out. Default: the
	// rule itself streams the events to GET requests that prefer text/event-stream.
	Topic string `json:"topic,omitempty"`

	// Headers of the requests for the feeds. Values may contain placeholders, for
	// example {env.FEED_TOKEN}. `Host` sets the host of the request.
	Headers map[string]string `json:"headers,omitempty"`

	// The format of the feeds; see `relay`. Default: what the Content-Type says.
	Format formats.Format `json:"format,omitempty"`

	// Names the events, as in `relay`. Default: the feed's names.
	Event string `json:"event,omitempty"`

	// A jq program that makes the data of the events, as in `relay`.
	// Default: all passes unchanged.
	Select string `json:"select,omitempty"`

	// Selects the events that a client of the rule receives first: `all` that the
	// history holds, the `last` events, or `none`. Default: none.
	Replay string `json:"replay,omitempty"`

	// The number of events of `replay last`.
	ReplayLast int `json:"replay_last,omitempty"`

	// How long a feed may send nothing, not even a comment, until the module
	// connects again. At least 1s. Default: no limit, but 1m until the
	// response's header has come.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Limits the size of one event, in bytes. A larger one breaks the feed
	// off. Default: 4194304 (4 MiB).
	MaxEvent int64 `json:"max_event,omitempty"`

	// Site is the origin of the rule's own site, which has the paths, and Place
	// identifies its server. The rule sets them before [StandingConfig.Provision];
	// Site is nil if it is unknown.
	Site  *url.URL `json:"-"`
	Place string   `json:"-"`

	feeds  []feedURL
	header http.Header // of the configuration
	host   string      // empty: the URL's
	shape  *shape
	topic  *template.Template // nil: none
}

// feedURL is the URL of a standing feed. place is empty unless it is a path of the rule's
// own site.
type feedURL struct {
	*url.URL
	place string
}

// Validate returns the first error of the configuration that doesn't depend on the
// values of placeholders. It changes nothing.
func (c *StandingConfig) Validate() error {
	switch {
	case len(c.URLs) == 0:
		return errors.New("a standing feed needs a URL: write for example relay https://example.com/feed")
	case c.Format != "" && !slices.Contains(formats.All, c.Format):
		return errFormat(c.Format)
	case c.Timeout < 0 || c.MaxEvent < 0:
		return errors.New("the limits of a relay can't be negative")
	case c.Timeout > 0 && time.Duration(c.Timeout) < time.Second:
		return errors.New("timeout must be at least 1s")
	case c.Topic != "" && c.Replay != "":
		return errors.New("replay is for the rule's own streams, and topic leaves them to rules with topic: leave out one of the two")
	}
	if err := checkReplay(c.Replay, c.ReplayLast); err != nil {
		return err
	}
	for i, text := range c.URLs {
		if strings.Contains(text, "{") {
			continue
		}
		if _, err := parseFeed(text, i); err != nil {
			return err
		}
		if slices.Contains(c.URLs[:i], text) {
			return fmt.Errorf("feed %d is one of those before: write each once", i+1)
		}
	}
	for name := range c.Headers {
		if err := checkHeaderName(name); err != nil {
			return err
		}
	}
	if _, err := c.compileTopic(); err != nil {
		return err
	}
	_, err := newShape(c.shaping())
	return err
}

// shaping returns the options that a feed shares with those of viewers.
func (c *StandingConfig) shaping() *Config { return &Config{Event: c.Event, Select: c.Select} }

// parseFeed parses a URL. Its errors don't repeat it, since it may have credentials.
func parseFeed(text string, i int) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || strings.ContainsAny(text, " \t\r\n"):
	case u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return u, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "":
		u.Fragment = ""
		return u, nil
	}
	return nil, fmt.Errorf("feed %d is no URL: write http:// or https:// and a host, or a path of this site such as /feed", i+1)
}

func checkHeaderName(name string) error {
	switch canonical := http.CanonicalHeaderKey(name); {
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("header_up %q is no valid name: write for example header_up Authorization \"Bearer {env.FEED_TOKEN}\"", name)
	case slices.Contains(notRepeated, canonical), canonical == "Last-Event-Id":
		return fmt.Errorf("header_up %s is set by the module itself: leave it out", name)
	}
	return nil
}

func (c *StandingConfig) compileTopic() (*template.Template, error) {
	if c.Topic == "" {
		return nil, nil
	}
	topic, err := template.Compile(c.Topic)
	if err != nil {
		return nil, fmt.Errorf("topic: %w", err)
	}
	if err := checkPlaceholders("topic", c.Topic, topic); err != nil {
		return nil, err
	}
	if len(topic.Placeholders()) == 0 {
		return topic, hub.CheckTopic(c.Topic)
	}
	return topic, nil
}

// Provision validates the configuration, replaces its placeholders, and sets the
// defaults.
func (c *StandingConfig) Provision(repl *caddy.Replacer) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	c.MaxEvent = cmp.Or(c.MaxEvent, 4<<20)
	c.Replay = cmp.Or(c.Replay, replayNone)
	c.header = make(http.Header)
	for name, text := range c.Headers {
		value, err := repl.ReplaceOrErr(text, true, true)
		if err != nil || !httpguts.ValidHeaderFieldValue(value) { // the error may hold the value
			return fmt.Errorf("header_up %s has no valid value: is the variable of the environment set?", name)
		}
		if c.header.Set(name, value); http.CanonicalHeaderKey(name) == "Host" {
			c.header.Del("Host")
			c.host = value
		}
	}
	for i, text := range c.URLs {
		if text, err = repl.ReplaceOrErr(text, true, true); err != nil {
			return fmt.Errorf("feed %d: %w", i+1, err)
		}
		u, err := parseFeed(text, i)
		if err != nil {
			return err
		}
		feed := feedURL{URL: u}
		if u.Host == "" {
			if feed, err = c.onSite(u); err != nil {
				return err
			}
		}
		c.feeds = append(c.feeds, feed)
	}
	c.topic, _ = c.compileTopic()
	c.shape, err = newShape(c.shaping())
	return err
}

// onSite returns the URL of a path of the rule's own site.
func (c *StandingConfig) onSite(u *url.URL) (feedURL, error) {
	switch {
	case c.Site == nil:
		return feedURL{}, errors.New("the module doesn't know the site of the path: write the feed's whole URL")
	case c.host == "" && (c.Site.Host == "" || strings.ContainsAny(c.Site.Host, "*{")):
		return feedURL{}, errors.New("the site has no host of its own: add the one to request, for example header_up Host app.example.com")
	}
	u.Scheme, u.Host = c.Site.Scheme, cmp.Or(c.host, c.Site.Host)
	return feedURL{u, c.Place}, nil
}
