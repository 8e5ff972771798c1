package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"
)

// maxBody limits a request's body in bytes. Valid bodies have some 40 bytes.
const maxBody = 4 << 10

// api is the petstore's HTTP interface. Its handlers are in the files of their
// subjects.
type api struct {
	inventory *Inventory
	orders    *Orders
	sessions  *Sessions
	requests  *Requests
	freezer   Freezer
	think     time.Duration
}

// routes returns the handler of all routes.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/login", handler(a.login))
	mux.Handle("POST /v1/logout", handler(a.logout))
	mux.Handle("GET /v1/me", a.private(a.me))
	mux.Handle("GET /v1/inventory", handler(a.listInventory))
	mux.Handle("PATCH /v1/inventory/{id}", handler(a.changePet))
	mux.Handle("GET /v1/orders", a.private(a.listOrders))
	mux.Handle("POST /v1/orders", a.private(a.placeOrder))
	mux.Handle("GET /v1/orders/{id}", a.private(a.showOrder))
	mux.Handle("POST /v1/orders/{id}/cancel", a.private(a.cancelOrder))
	mux.Handle("GET /v1/recommendations", a.private(a.recommend))
	mux.Handle("GET /v1/requests", handler(a.listRequests))
	mux.Handle("POST /v1/freeze", handler(a.freezer.freeze))
	return a.freezer.freezing(a.requests.counting(mux))
}

// handler is a handler that may fail: its error becomes the response.
type handler func(http.ResponseWriter, *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := h(w, r); err != nil {
		writeError(w, err)
	}
}

// private requires a login and passes the user to h.
func (a *api) private(h func(w http.ResponseWriter, r *http.Request, user string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		user, ok := a.sessions.User(sessionToken(r))
		if !ok {
			return errNotLoggedIn
		}
		w.Header().Set("Cache-Control", "private, no-cache")
		return h(w, r, user)
	}
}

// problem is an error that the client may see.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// badRequest returns a problem with status 400.
func badRequest(format string, args ...any) error {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// writeError responds with a problem's message. It logs any other error and hides
// it from the client.
func writeError(w http.ResponseWriter, err error) {
	var known *problem
	if !errors.As(err, &known) {
		log.Printf("petstore: %v", err)
		known = &problem{http.StatusInternalServerError, "internal error"}
	}
	writeJSON(w, known.status, map[string]string{"error": known.message})
}

// writeJSON sends v as JSON. It ignores errors of the connection.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// readJSON decodes a request's body into v. It ignores the Content-Type, so that
// curl -d needs no header. An unknown field is an error, because it may be
// misspelt.
func readJSON(r *http.Request, v any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	if err == nil && decoder.More() {
		err = errors.New("more than one value")
	}
	return bodyProblem(err)
}

// bodyProblem returns the problem of a body that can't be read.
func bodyProblem(err error) error {
	if err == nil {
		return nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &problem{http.StatusRequestEntityTooLarge, "the body is too large"}
	}
	return badRequest("can't read the body: %v", err)
}
