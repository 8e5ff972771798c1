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

func (o *openStream) entry() streamEntry {
	return streamEntry{
		Hub: o.rule.id.hub, Rule: o.rule.id.name, Proto: strconv.Itoa(o.request.ProtoMajor),
		Client: o.client, User: o.user, Host: o.request.Host, Path: o.request.URL.Path,
		Since: time.Unix(0, o.since).UTC(), Events: o.events.Load(), Bytes: o.bytes.Load(),
		Lag: o.cursor.Lag(), Topics: hub.CountTopics(o.cursor.Topics()),
	}
}

// matches tells whether a query means the stream.
func (o *openStream) matches(query url.Values) bool {
	for name, value := range map[string]string{
		"hub": o.rule.id.hub, "rule": o.rule.id.name, "proto": strconv.Itoa(o.request.ProtoMajor),
		"client": o.client, "user": o.user, "host": o.request.Host,
	} {
		if !wanted(query, name, value) {
			return false
		}
	}
	if topics := query["topic"]; len(topics) > 0 && !slices.ContainsFunc(topics, func(t string) bool { return slices.Contains(o.cursor.Topics(), t) }) {
		return false
	}
	paths := query["path"]
	return len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(o.request.URL.Path, p) })
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
