package caddysse

import (
	"net/http"
	"slices"
)

// refusalList is the response to GET /sse/refusals.
type refusalList struct {
	Total    int            `json:"total"` // of those that match
	Refusals []refusalEntry `json:"refusals"`
}

// listRefusals lists the webhooks that were refused, the newest first: those
// of ?hub=, ?rule=, ?kind=, ?sender= and ?client=, at most ?limit= of them.
func listRefusals(w http.ResponseWriter, r *http.Request) error {
	limit, err := parseLimit(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := refusalList{Refusals: []refusalEntry{}}
	for _, e := range allRefusals() {
		if matchesFilter(query, "hub", e.Hub) && matchesFilter(query, "rule", e.Rule) && matchesFilter(query, "kind", string(e.Kind)) &&
			matchesFilter(query, "sender", e.Sender) && matchesFilter(query, "client", e.Client) {
			list.Refusals = append(list.Refusals, e)
		}
	}
	slices.SortStableFunc(list.Refusals, func(a, b refusalEntry) int { return b.Last.Compare(a.Last) })
	list.Total = len(list.Refusals)
	list.Refusals = list.Refusals[:min(limit, len(list.Refusals))]
	return writeJSON(w, http.StatusOK, list)
}

func allRefusals() (all []refusalEntry) {
	eachHub(func(_ string, s *sharedHub) {
		for _, l := range s.refusalLogs() {
			all = append(all, l.list()...)
		}
	})
	return all
}
