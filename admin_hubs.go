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

// listHubs lists the hubs by name, in response to GET /sse/hubs.
func listHubs(w http.ResponseWriter, r *http.Request) error {
	if err := requireGet(r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string][]hubEntry{"hubs": hubEntries()})
}

// serveHealth responds to GET /sse/health: with 200 if every hub could store its
// newest events, or has had none, otherwise with 503 and the hubs that could not.
func serveHealth(w http.ResponseWriter, r *http.Request) error {
	if err := requireGet(r); err != nil {
		return err
	}
	failing := make(map[string]string)
	for _, h := range hubEntries() {
		if h.Error != "" {
			failing[h.Hub] = h.Error
		}
	}
	if len(failing) > 0 {
		return writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "failing", "hubs": failing})
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func hubEntries() []hubEntry {
	list := []hubEntry{}
	eachHub(func(name string, s *sharedHub) { list = append(list, hubEntry{name, s.Stats()}) })
	slices.SortFunc(list, func(a, b hubEntry) int { return strings.Compare(a.Hub, b.Hub) })
	return list
}
