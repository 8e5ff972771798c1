package caddysse

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// forwardSync lets the app respond to a webhook. If the app's status is a
// success, forwardSync publishes the delivery before the sender has the
// response. The app receives the original request, also if it is a duplicate or a
// handshake, or if the module can't publish it.
func (h *webhookRule) forwardSync(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, delivery *webhook.Delivery) error {
	response := &forwardedResponse{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		before:                w.Header().Clone(),
	}
	original, target := *r, *r.URL // before handlers rewrite the request
	original.URL = &target
	response.decide = func(status int) *refusal.Error { return h.appResponded(&original, delivery, status) }
	err := next.ServeHTTP(response, r)
	switch {
	case response.refused != nil:
		return h.refuse(w, &original, response.refused)
	case err != nil && response.status == 0:
		h.recordRefusal(&original, refusedByApp(statusOf(err)))
		return err
	case err != nil:
		return err
	case response.status == 0:
		return h.refuse(w, &original, &refusal.Error{
			Status: http.StatusBadGateway, Kind: string(webhook.AppRefused),
			Reason: "no handler answered", Detail: "no handler follows the rule: add a reverse_proxy",
		})
	}
	return nil
}

// appResponded is called with the app's status before the sender has it. It
// returns the refusal that the sender gets instead, if any.
func (h *webhookRule) appResponded(r *http.Request, delivery *webhook.Delivery, status int) *refusal.Error {
	switch {
	case status < 200 || status > 299:
		h.recordRefusal(r, refusedByApp(status))
		return nil
	case delivery.IsHandshake:
		h.metrics.received(webhook.Handshake)
		return nil
	case delivery.Refused != nil:
		h.recordRefusal(r, delivery.Refused)
		return nil
	}
	_, refused := h.publish(r, delivery)
	return refused
}

// refusedByApp is the record for the operator: the sender gets the app's own
// response.
func refusedByApp(status int) *refusal.Error {
	return &refusal.Error{
		Status: status, Kind: string(webhook.AppRefused),
		Reason: fmt.Sprintf("the app answered with %d, so nothing is published", status),
	}
}

// statusOf returns the status of Caddy's response to a handler's error.
func statusOf(err error) int {
	var status caddyhttp.HandlerError
	if errors.As(err, &status) && status.StatusCode != 0 {
		return status.StatusCode
	}
	return http.StatusInternalServerError
}

// forwardedResponse passes the app's response to the sender, or discards it:
// decide chooses when the status is known.
type forwardedResponse struct {
	*caddyhttp.ResponseWriterWrapper
	before  http.Header // the headers before the app was called
	decide  func(status int) *refusal.Error
	status  int // zero: none yet
	refused *refusal.Error
}

func (w *forwardedResponse) WriteHeader(status int) {
	w.setStatus(status)
	if w.refused == nil {
		w.ResponseWriterWrapper.WriteHeader(status)
	}
}

// setStatus calls decide at the first final status, before the client has the
// response.
func (w *forwardedResponse) setStatus(status int) {
	if !isFinal(status) || w.status != 0 {
		return
	}
	w.status = status
	if w.refused = w.decide(status); w.refused != nil {
		clear(w.Header())
		maps.Copy(w.Header(), w.before)
	}
}

// begin writes the default status if the app has written none.
func (w *forwardedResponse) begin() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *forwardedResponse) Write(p []byte) (int, error) {
	w.begin()
	if w.refused != nil {
		return len(p), nil
	}
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom lets the server send files without copying them.
func (w *forwardedResponse) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	if w.refused != nil {
		return io.Copy(io.Discard, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError writes the default status before the server would.
func (w *forwardedResponse) FlushError() error {
	w.begin()
	if w.refused != nil {
		return nil
	}
	return http.NewResponseController(w.ResponseWriterWrapper.ResponseWriter).Flush()
}

// Hijack implements [http.Hijacker]. A hijacked connection counts as 101, since the
// module doesn't see its bytes.
func (w *forwardedResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriterWrapper.ResponseWriter).Hijack()
	if err == nil {
		w.setStatus(http.StatusSwitchingProtocols)
	}
	return conn, buffer, err
}
