package caddysse

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// deadLetterEntry is a dead letter in the list.
type deadLetterEntry struct {
	Hub  string `json:"hub"`
	Rule string `json:"rule"`
	forward.DeadLetter
}

// deadLetterList is the response to GET /sse/deadletters.
type deadLetterList struct {
	Total   int               `json:"total"` // of those that match
	Letters []deadLetterEntry `json:"letters"`
}

// serveDeadLetters lists the dead letters of ?hub= and ?rule=, the newest first,
// at most ?limit= of them. A POST with ?id= forwards one again.
func serveDeadLetters(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return retryDeadLetter(w, r)
	}
	limit, err := parseLimit(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := deadLetterList{Letters: []deadLetterEntry{}}
	eachForwarder(func(rule ruleID, f *forward.Forwarder) {
		if !matchesFilter(query, "hub", rule.hub) || !matchesFilter(query, "rule", rule.name) {
			return
		}
		letters, more := f.DeadLetters()
		err = errors.Join(err, more)
		for _, letter := range letters {
			list.Letters = append(list.Letters, deadLetterEntry{rule.hub, rule.name, letter})
		}
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(list.Letters, func(a, b deadLetterEntry) int { return b.GivenUp.Compare(a.GivenUp) })
	list.Total = len(list.Letters)
	list.Letters = list.Letters[:min(limit, len(list.Letters))]
	return writeJSON(w, http.StatusOK, list)
}

func retryDeadLetter(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	err := error(forward.ErrNoDeadLetter)
	eachForwarder(func(_ ruleID, f *forward.Forwarder) {
		if errors.Is(err, forward.ErrNoDeadLetter) {
			err = f.Retry(id)
		}
	})
	switch {
	case errors.Is(err, forward.ErrNoDeadLetter):
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	case errors.Is(err, forward.ErrNotInHistory):
		return caddy.APIError{HTTPStatus: http.StatusGone, Err: err}
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
