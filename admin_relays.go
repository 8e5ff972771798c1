package caddysse

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

// relayEntry is a response of a backend in the list.
type relayEntry struct {
	Hub string `json:"hub"`
	relay.Info
}

// relayList is the response to GET /sse/relays.
type relayList struct {
	Total  int          `json:"total"` // of those that match
	Relays []relayEntry `json:"relays"`
}

// listRelays lists the backends' streams that are read or can be resumed, and standing feeds, by hub,
// rule, host and path: those of ?hub=, ?rule= and ?host= whose path begins with
// ?path=, at most ?limit= of them.
func listRelays(w http.ResponseWriter, r *http.Request) error {
	limit, err := parseLimit(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := relayList{Relays: []relayEntry{}}
	eachHub(func(hub string, s *sharedHub) {
		for _, info := range slices.Concat(s.feeds.List(), s.standing.List()) {
			if matchesFilter(query, "hub", hub) && matchesFilter(query, "rule", info.Rule) && matchesFilter(query, "host", info.Host) && strings.HasPrefix(info.Path, query.Get("path")) {
				list.Relays = append(list.Relays, relayEntry{hub, info})
			}
		}
	})
	key := func(e relayEntry) string { return strings.Join([]string{e.Hub, e.Rule, e.Host, e.Path}, "\x00") }
	slices.SortStableFunc(list.Relays, func(a, b relayEntry) int { return strings.Compare(key(a), key(b)) })
	list.Total = len(list.Relays)
	list.Relays = list.Relays[:min(limit, len(list.Relays))]
	return writeJSON(w, http.StatusOK, list)
}
