package caddysse

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
)

// openStream is a stream while it is open, for an operator who looks at it. It
// holds nothing that the stream doesn't hold anyway but two counts and a flag.
type openStream struct {
	rule         *Handler
	request      *http.Request // of which only what no handler changes is looked at
	cursor       *hub.Cursor
	client, user string
	since        int64 // in nanoseconds since 1970

	events, bytes atomic.Int64
	stopped       atomic.Bool

	mu sync.Mutex
	w  http.ResponseWriter // the server's own; nil once the stream has ended
}

// newOpenStream is for a stream that is about to begin.
func newOpenStream(h *Handler, w http.ResponseWriter, r *http.Request, c *hub.Cursor) *openStream {
	s := &openStream{rule: h, w: innermost(w), request: r, cursor: c, since: time.Now().UnixNano()}
	s.client = clientIP(r)
	s.user, _ = replacer(r).GetString("http.auth.user.id")
	return s
}

// Sent implements [stream.Observer].
func (s *openStream) Sent(events int, bytes int64) {
	s.events.Add(int64(events))
	s.bytes.Add(bytes)
	s.rule.metrics.Sent(events, bytes)
}

// eachStream calls f for the streams of all hubs.
func eachStream(f func(*openStream)) {
	hubs.Range(func(_, shared any) bool {
		for _, o := range shared.(*sharedHub).open() {
			f(o)
		}
		return true
	})
}

// streamEntry is a stream in the list.
type streamEntry struct {
	Hub  string `json:"hub"`
	Rule string `json:"rule"`
	// Proto is HTTP's major version.
	Proto string `json:"proto"`
	// Client is the address that it goes to, as far as proxies are trusted to
	// know it, and User {http.auth.user.id}.
	Client string    `json:"client"`
	User   string    `json:"user,omitempty"`
	Host   string    `json:"host"`
	Path   string    `json:"path"`
	Since  time.Time `json:"since"`
	Events int64     `json:"events"`
	Bytes  int64     `json:"bytes"`
	// Lag is how many events were published since the first that the stream
	// has not read.
	Lag uint64 `json:"lag"`
	// Topics is how many it is on; a polled document is none.
	Topics int `json:"topics"`
}

func (s *openStream) entry() streamEntry {
	return streamEntry{
		Hub: s.rule.metrics.rule.hub, Rule: s.rule.metrics.rule.name, Proto: strconv.Itoa(s.request.ProtoMajor),
		Client: s.client, User: s.user, Host: s.request.Host, Path: s.request.URL.Path,
		Since: time.Unix(0, s.since).UTC(), Events: s.events.Load(), Bytes: s.bytes.Load(),
		Lag: s.cursor.Lag(), Topics: hub.CountTopics(s.cursor.Topics()),
	}
}

// matches tells whether a query means the stream.
func (s *openStream) matches(query url.Values) bool {
	for name, value := range map[string]string{
		"hub": s.rule.metrics.rule.hub, "rule": s.rule.metrics.rule.name, "proto": strconv.Itoa(s.request.ProtoMajor),
		"client": s.client, "user": s.user, "host": s.request.Host,
	} {
		if !wanted(query, name, value) {
			return false
		}
	}
	if topics := query["topic"]; len(topics) > 0 && !slices.ContainsFunc(topics, func(t string) bool { return slices.Contains(s.cursor.Topics(), t) }) {
		return false
	}
	paths := query["path"]
	return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(s.request.URL.Path, p) })
}

// streamFilters are what streams can be chosen by.
var streamFilters = []string{"hub", "rule", "proto", "client", "user", "host", "topic", "path"}

// streamList is what GET /sse/streams answers.
type streamList struct {
	Total   int           `json:"total"` // of those that match
	Streams []streamEntry `json:"streams"`
}

// listStreams answers with the streams that are open, those that are the
// furthest behind first and of these the oldest: those of ?hub=, ?rule=,
// ?proto=, ?client=, ?user=, ?host=, ?topic= and whose path begins with ?path=,
// at most ?limit= of them, 1000 unless it says otherwise. A DELETE ends them.
func listStreams(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodDelete {
		return endStreams(w, r)
	}
	limit, err := checkListing(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	query.Del("limit")
	if err := checkNames(query); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	list := streamList{Streams: []streamEntry{}}
	eachStream(func(o *openStream) {
		if o.matches(query) {
			list.Streams = append(list.Streams, o.entry())
		}
	})
	slices.SortFunc(list.Streams, func(a, b streamEntry) int {
		return cmp.Or(cmp.Compare(b.Lag, a.Lag), a.Since.Compare(b.Since))
	})
	list.Total = len(list.Streams)
	list.Streams = list.Streams[:min(limit, len(list.Streams))]
	return answerJSON(w, http.StatusOK, list)
}

// endStreams ends those that the query means. Nothing is sent to them any more.
func endStreams(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err == nil {
		err = checkFilters(query)
	}
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	ended := 0
	groups := make(map[*stream.Group]struct{})
	eachStream(func(o *openStream) {
		if o.matches(query) && o.stopped.CompareAndSwap(false, true) {
			groups[o.rule.group] = struct{}{}
			ended++
		}
	})
	for g := range groups {
		g.Notify()
	}
	return answerJSON(w, http.StatusOK, map[string]int{"ended": ended})
}

// checkFilters refuses a query that means all streams, by mistake perhaps.
func checkFilters(query url.Values) error {
	if len(query) == 0 {
		return errors.New("say which streams are to end, by " + strings.Join(streamFilters, ", "))
	}
	for name, values := range query {
		if slices.Contains(values, "") {
			return fmt.Errorf("%s is empty: say what it is of those streams that are to end", name)
		}
	}
	return checkNames(query)
}

// checkNames refuses what streams can't be chosen by: left out, it would mean
// more than was asked for.
func checkNames(query url.Values) error {
	for name := range query {
		if !slices.Contains(streamFilters, name) {
			return fmt.Errorf("there is no %q to choose streams by: use %s", name, strings.Join(streamFilters, ", "))
		}
	}
	return nil
}

var _ stream.Observer = (*openStream)(nil)
