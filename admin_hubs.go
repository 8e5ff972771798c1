package caddysse

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/hub"
)

// hubEntry is a hub in the list.
type hubEntry struct {
	Hub string `json:"hub"`
	hub.Stats
}

// listHubs answers GET /sse/hubs with the hubs by name.
func listHubs(w http.ResponseWriter, r *http.Request) error {
	if err := mustGet(r); err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, map[string][]hubEntry{"hubs": hubEntries()})
}

// health answers GET /sse/health: 200 if every hub could store its newest
// events, or has had none, and 503 with the hubs that could not.
func health(w http.ResponseWriter, r *http.Request) error {
	if err := mustGet(r); err != nil {
		return err
	}
	failing := make(map[string]string)
	for _, h := range hubEntries() {
		if h.Error != "" {
			failing[h.Hub] = h.Error
		}
	}
	if len(failing) > 0 {
		return answerJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "failing", "hubs": failing})
	}
	return answerJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func hubEntries() []hubEntry {
	list := []hubEntry{}
	eachHub(func(name string, s *sharedHub) { list = append(list, hubEntry{name, s.Stats()}) })
	slices.SortFunc(list, func(a, b hubEntry) int { return strings.Compare(a.Hub, b.Hub) })
	return list
}
