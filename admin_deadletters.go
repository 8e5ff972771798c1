package caddysse

import (
	"errors"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// letterEntry is a dead letter in the list.
type letterEntry struct {
	Hub  string `json:"hub"`
	Rule string `json:"rule"`
	forward.DeadLetter
}

// letterList is what GET /sse/deadletters answers.
type letterList struct {
	Total   int           `json:"total"` // of those that match
	Letters []letterEntry `json:"letters"`
}

// deadLetters lists the deliveries that were given up, the last first: those of
// ?hub= and ?rule=, at most ?limit= of them, 1000 unless it says otherwise. A
// POST with ?id= has one tried again.
func deadLetters(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return retryLetter(w, r)
	}
	limit, err := checkListing(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := letterList{Letters: []letterEntry{}}
	eachForwarder(func(rule ruleID, f *forward.Forwarder) {
		if !wanted(query, "hub", rule.hub) || !wanted(query, "rule", rule.name) {
			return
		}
		letters, more := f.DeadLetters()
		err = errors.Join(err, more)
		for _, letter := range letters {
			list.Letters = append(list.Letters, letterEntry{rule.hub, rule.name, letter})
		}
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(list.Letters, func(a, b letterEntry) int { return b.Died.Compare(a.Died) })
	list.Total = len(list.Letters)
	list.Letters = list.Letters[:min(limit, len(list.Letters))]
	return answerJSON(w, http.StatusOK, list)
}

func retryLetter(w http.ResponseWriter, r *http.Request) error {
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
	case errors.Is(err, forward.ErrNotKept):
		return caddy.APIError{HTTPStatus: http.StatusGone, Err: err}
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
