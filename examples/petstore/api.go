package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"
)

// maxBody bounds a request's body; the largest honest one has some 40 bytes.
const maxBody = 4 << 10

// api is the petstore's HTTP interface. Its handlers live in the files of what
// they are about.
type api struct {
	inventory *Inventory
	orders    *Orders
	sessions  *Sessions
	requests  *Requests
	think     time.Duration
}

// routes is the whole interface at a glance.
func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/login", answer(a.login))
	mux.Handle("POST /v1/logout", answer(a.logout))
	mux.Handle("GET /v1/me", a.private(a.me))
	mux.Handle("GET /v1/inventory", answer(a.listInventory))
	mux.Handle("PATCH /v1/inventory/{id}", answer(a.changePet))
	mux.Handle("GET /v1/orders", a.private(a.listOrders))
	mux.Handle("POST /v1/orders", a.private(a.placeOrder))
	mux.Handle("GET /v1/orders/{id}", a.private(a.showOrder))
	mux.Handle("POST /v1/orders/{id}/cancel", a.private(a.cancelOrder))
	mux.Handle("GET /v1/recommendations", a.private(a.recommend))
	mux.Handle("GET /v1/requests", answer(a.listRequests))
	return a.requests.counting(mux)
}

// answer is a handler that may fail: what it returns becomes the response.
type answer func(http.ResponseWriter, *http.Request) error

func (h answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := h(w, r); err != nil {
		writeError(w, err)
	}
}

// private answers those who are logged in, and tells the handler who it is.
func (a *api) private(h func(w http.ResponseWriter, r *http.Request, user string) error) answer {
	return func(w http.ResponseWriter, r *http.Request) error {
		user, ok := a.sessions.User(sessionToken(r))
		if !ok {
			return errNotLoggedIn
		}
		w.Header().Set("Cache-Control", "private, no-cache")
		return h(w, r, user)
	}
}

// problem is an error that the client caused, or at least may be told of.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// badRequest is the problem of a request that nobody could make sense of.
func badRequest(format string, args ...any) error {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// writeError tells the client what it may know; the rest is for the log.
func writeError(w http.ResponseWriter, err error) {
	var known *problem
	if !errors.As(err, &known) {
		log.Printf("petstore: %v", err)
		known = &problem{http.StatusInternalServerError, "internal error"}
	}
	writeJSON(w, known.status, map[string]string{"error": known.message})
}

// writeJSON sends v. An error of the connection is no news to anyone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// readJSON decodes a request's body into v, whatever its Content-Type says, so
// that curl -d does without a header. A misspelt field is an error: it would be
// ignored in silence otherwise.
func readJSON(r *http.Request, v any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	if err == nil && decoder.More() {
		err = errors.New("more than one value")
	}
	return bodyProblem(err)
}

// bodyProblem says what is wrong with a body that could not be read.
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
