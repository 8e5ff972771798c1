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

// Admin adds to the admin API what there is to see of this module:
//
//	GET /sse/views             what is polled, and what has become of it
//	GET /sse/hubs              the hubs: what they hold, and who follows
//	GET /sse/topics            the topics that are followed, and their last events
//	GET /sse/streams           the streams that are open, and how far they are behind
//	DELETE /sse/streams?user=  ends those of a user, say
//	GET /sse/health            200 if events can be stored, 503 if not
//	GET /sse/refusals          the webhooks that were refused, and why
//	GET /sse/deadletters       the webhooks that the app has not taken
//	POST /sse/deadletters?id=  tries one of these again
//
// It shows no credentials, no data and no queries; of viewers it shows their
// addresses and the ids that they are authenticated by. Topics are shown by their
// names, and events by their ids, whoever has chosen these: no name is a secret.
type Admin struct{}

// CaddyModule returns the module's information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sse", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements [caddy.AdminRouter].
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/sse/views", Handler: caddy.AdminHandlerFunc(listViews)},
		{Pattern: "/sse/hubs", Handler: caddy.AdminHandlerFunc(listHubs)},
		{Pattern: "/sse/topics", Handler: caddy.AdminHandlerFunc(listTopics)},
		{Pattern: "/sse/streams", Handler: caddy.AdminHandlerFunc(listStreams)},
		{Pattern: "/sse/health", Handler: caddy.AdminHandlerFunc(health)},
		{Pattern: "/sse/deadletters", Handler: caddy.AdminHandlerFunc(deadLetters)},
		{Pattern: "/sse/refusals", Handler: caddy.AdminHandlerFunc(listRefusals)},
	}
}

// viewEntry is a view in the list.
type viewEntry struct {
	Hub  string `json:"hub"`
	Rule string `json:"rule"`
	poll.ViewInfo
}

// viewList is what GET /sse/views answers.
type viewList struct {
	Total int         `json:"total"` // of those that match
	Views []viewEntry `json:"views"`
}

// listViews answers with the views that are polled, by hub, rule, host and
// path: those of ?hub=, ?rule=, ?host= and whose path begins with ?path=, at
// most ?limit= of them, 1000 unless it says otherwise.
func listViews(w http.ResponseWriter, r *http.Request) error {
	limit, err := checkListing(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := viewList{Views: []viewEntry{}}
	eachPoller(func(rule ruleID, p *poll.Poller) {
		if !wanted(query, "hub", rule.hub) || !wanted(query, "rule", rule.name) {
			return
		}
		for _, info := range p.List() {
			if wanted(query, "host", info.Host) && strings.HasPrefix(info.Path, query.Get("path")) {
				list.Views = append(list.Views, viewEntry{rule.hub, rule.name, info})
			}
		}
	})
	slices.SortStableFunc(list.Views, func(a, b viewEntry) int {
		return strings.Compare(a.Hub+"\x00"+a.Rule, b.Hub+"\x00"+b.Rule)
	})
	list.Total = len(list.Views)
	list.Views = list.Views[:min(limit, len(list.Views))]
	return answerJSON(w, http.StatusOK, list)
}

// checkListing is for requests for a list: how long it may be.
func checkListing(r *http.Request) (limit int, err error) {
	if err := mustGet(r); err != nil {
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

func mustGet(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed(r.Method, http.MethodGet)
	}
	return nil
}

func answerJSON(w http.ResponseWriter, status int, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(answer)
}

// methodNotAllowed is for a path of the admin API on which others are answered.
func methodNotAllowed(method, allowed string) error {
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s is not answered here: use %s", method, allowed)}
}

// wanted tells whether a query that names a value, or doesn't, means this one.
func wanted(query map[string][]string, name, value string) bool {
	return len(query[name]) == 0 || slices.Contains(query[name], value)
}

// Interface guard
var _ caddy.AdminRouter = Admin{}
