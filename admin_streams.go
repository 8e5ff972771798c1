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
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
)

// streamEntry is a stream in the list.
type streamEntry struct {
	Hub  string `json:"hub"`
	Rule string `json:"rule"`
	// Proto is the major version of HTTP.
	Proto string `json:"proto"`
	// Client is the client's address, as [clientIP] returns it, and User the
	// value of {http.auth.user.id}.
	Client string `json:"client"`
	User   string `json:"user,omitempty"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	// Paths are those of the URLs of a multiplexed stream.
	Paths  []string  `json:"paths,omitempty"`
	Since  time.Time `json:"since"`
	Events int64     `json:"events"`
	Bytes  int64     `json:"bytes"`
	// Lag is how many events the stream is behind.
	Lag uint64 `json:"lag"`
	// Topics is the number of the stream's topics, apart from polled documents.
	Topics int `json:"topics"`
}

func (o *openStream) entry() streamEntry {
	return streamEntry{
		Hub: o.rule.id.hub, Rule: o.rule.id.name, Proto: strconv.Itoa(o.proto),
		Client: o.client, User: o.user, Host: o.host, Path: o.path, Paths: o.paths,
		Since: time.Unix(0, o.since).UTC(), Events: o.events.Load(), Bytes: o.bytes.Load(),
		Lag: o.cursor.Lag(), Topics: hub.CountTopics(o.cursor.Topics()),
	}
}

// matches reports whether the stream matches all filters of a query.
func (o *openStream) matches(query url.Values) bool {
	for name, value := range map[string]string{
		"hub": o.rule.id.hub, "rule": o.rule.id.name, "proto": strconv.Itoa(o.proto),
		"client": o.client, "user": o.user, "host": o.host,
	} {
		if !matchesFilter(query, name, value) {
			return false
		}
	}
	if topics := query["topic"]; len(topics) > 0 && !slices.ContainsFunc(topics, func(t string) bool { return slices.Contains(o.cursor.Topics(), t) }) {
		return false
	}
	prefixes := query["path"]
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, o.hasPath)
}

// hasPath reports whether the path of the stream begins with a prefix, or that of one
// of its URLs.
func (o *openStream) hasPath(prefix string) bool {
	return strings.HasPrefix(o.path, prefix) ||
		slices.ContainsFunc(o.paths, func(path string) bool { return strings.HasPrefix(path, prefix) })
}

// streamFilters are the query parameters that select streams.
var streamFilters = []string{"hub", "rule", "proto", "client", "user", "host", "topic", "path"}

// streamList is the response to GET /sse/streams.
type streamList struct {
	Total   int           `json:"total"` // of those that match
	Streams []streamEntry `json:"streams"`
}

// listStreams lists the open streams, those furthest behind first, then the
// oldest first: those of ?hub=, ?rule=, ?proto=, ?client=, ?user=, ?host= and
// ?topic= whose path, or one of whose URLs' paths, begins with ?path=, at most ?limit= of them. A DELETE ends
// them.
func listStreams(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodDelete {
		return endStreams(w, r)
	}
	limit, err := parseLimit(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	query.Del("limit")
	if err := checkFilterNames(query); err != nil {
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
	return writeJSON(w, http.StatusOK, list)
}

// endStreams ends the streams that match the query. They send nothing more.
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
	return writeJSON(w, http.StatusOK, map[string]int{"ended": ended})
}

// checkFilters refuses a query without filters, which would end all streams.
func checkFilters(query url.Values) error {
	if len(query) == 0 {
		return errors.New("name the streams to end: use at least one of " + strings.Join(streamFilters, ", "))
	}
	for name, values := range query {
		if slices.Contains(values, "") {
			return fmt.Errorf("%s is empty: give it the value that the streams to end have", name)
		}
	}
	return checkFilterNames(query)
}

// checkFilterNames refuses unknown filters: if they were ignored, the query would
// match more streams than intended.
func checkFilterNames(query url.Values) error {
	for name := range query {
		if !slices.Contains(streamFilters, name) {
			return fmt.Errorf("unknown filter %q: use %s", name, strings.Join(streamFilters, ", "))
		}
	}
	return nil
}
