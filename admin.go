package caddysse

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin adds the state of this module to the admin API:
//
//	GET /sse/views             the polled views, and the results of their polls
//	GET /sse/relays            the streams of backends that are relayed
//	GET /sse/hubs              the hubs, with the sizes of their logs
//	GET /sse/topics            the topics with subscribers, and their last events
//	GET /sse/streams           the open streams, and how far they are behind
//	DELETE /sse/streams?user=  ends the streams of a user, for example
//	GET /sse/health            200 if the hubs can store events, otherwise 503
//	GET /sse/refusals          the refused webhooks, and why
//	GET /sse/deadletters       the webhooks that could not be forwarded to the app
//	POST /sse/deadletters?id=  forwards one of these again
//
// It shows no credentials, no data and no queries. It shows the addresses and
// user ids of clients, the names of topics, and the ids of events: none of
// these should be secret.
type Admin struct{}

// CaddyModule returns the module's information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sse", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements [caddy.AdminRouter].
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/sse/views", Handler: caddy.AdminHandlerFunc(listViews)},
		{Pattern: "/sse/relays", Handler: caddy.AdminHandlerFunc(listRelays)},
		{Pattern: "/sse/hubs", Handler: caddy.AdminHandlerFunc(listHubs)},
		{Pattern: "/sse/topics", Handler: caddy.AdminHandlerFunc(listTopics)},
		{Pattern: "/sse/streams", Handler: caddy.AdminHandlerFunc(listStreams)},
		{Pattern: "/sse/health", Handler: caddy.AdminHandlerFunc(serveHealth)},
		{Pattern: "/sse/deadletters", Handler: caddy.AdminHandlerFunc(serveDeadLetters)},
		{Pattern: "/sse/refusals", Handler: caddy.AdminHandlerFunc(listRefusals)},
	}
}

// viewEntry is a view in the list.
type viewEntry struct {
	Hub  string `json:"hub"`
	Rule string `json:"rule"`
	poll.ViewInfo
}

// viewList is the response to GET /sse/views.
type viewList struct {
	Total int         `json:"total"` // of those that match
	Views []viewEntry `json:"views"`
}

// listViews lists the polled views by hub, rule, host and path: those of ?hub=,
// ?rule= and ?host= whose path begins with ?path=, at most ?limit= of them.
func listViews(w http.ResponseWriter, r *http.Request) error {
	limit, err := parseLimit(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := viewList{Views: []viewEntry{}}
	eachPoller(func(rule ruleID, p *poll.Poller) {
		if !matchesFilter(query, "hub", rule.hub) || !matchesFilter(query, "rule", rule.name) {
			return
		}
		for _, info := range p.List() {
			if matchesFilter(query, "host", info.Host) && strings.HasPrefix(info.Path, query.Get("path")) {
				list.Views = append(list.Views, viewEntry{rule.hub, rule.name, info})
			}
		}
	})
	slices.SortStableFunc(list.Views, func(a, b viewEntry) int {
		return strings.Compare(a.Hub+"\x00"+a.Rule, b.Hub+"\x00"+b.Rule)
	})
	list.Total = len(list.Views)
	list.Views = list.Views[:min(limit, len(list.Views))]
	return writeJSON(w, http.StatusOK, list)
}

// parseLimit returns the ?limit= of a request for a list. Default: 1000.
func parseLimit(r *http.Request) (limit int, err error) {
	if err := requireGet(r); err != nil {
		return 0, err
	}
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 1000, nil
	}
	limit, err = strconv.Atoi(text)
	if err != nil || limit < 0 {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("limit %q is no whole number", text)}
	}
	return limit, nil
}

func requireGet(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(r.Method, http.MethodGet)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(answer)
}

// methodNotAllowed is the error for a request with another method than the
// allowed one.
func methodNotAllowed(method, allowed string) error {
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s is not answered here: use %s", method, allowed)}
}

// matchesFilter reports whether the query has the value under that name, or has
// no such name.
func matchesFilter(query map[string][]string, name, value string) bool {
	return len(query[name]) == 0 || slices.Contains(query[name], value)
}

// Interface guard
var _ caddy.AdminRouter = Admin{}
