package caddysse

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// forward lets the app answer a webhook, and publishes it if the answer is a
// success: before the sender has heard of it. The app gets the request as it
// came, also one that is a duplicate, a handshake or can't be published.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, delivery *webhook.Delivery) error {
	answer := &forwardedAnswer{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		before:                w.Header().Clone(),
	}
	asked, target := *r, *r.URL // handlers may rewrite the request's
	asked.URL = &target
	answer.decide = func(status int) *refusal.Error { return h.answered(&asked, delivery, status) }
	err := next.ServeHTTP(answer, r)
	switch {
	case answer.refused != nil:
		return h.refuseWebhook(w, &asked, answer.refused)
	case err != nil && answer.status == 0:
		h.noteRefusal(&asked, appRefused(statusOf(err)))
		return err
	case err != nil:
		return err
	case answer.status == 0:
		return h.refuseWebhook(w, &asked, &refusal.Error{
			Status: http.StatusBadGateway, Kind: string(webhook.AppRefused),
			Reason: "nobody has answered", Detail: "no handler comes after the rule: add a reverse_proxy",
		})
	}
	return nil
}

// answered is called with the app's status before the sender has it. It returns
// what the sender gets in its place.
func (h *Handler) answered(r *http.Request, delivery *webhook.Delivery, status int) *refusal.Error {
	switch {
	case status < 200 || status > 299:
		h.noteRefusal(r, appRefused(status))
		return nil
	case delivery.IsHandshake:
		h.metrics.received(webhook.Handshake)
		return nil
	case delivery.Refused != nil:
		h.noteRefusal(r, delivery.Refused)
		return nil
	}
	_, refused := h.deliver(r, delivery)
	return refused
}

// appRefused is for the operator: the sender has the app's own answer.
func appRefused(status int) *refusal.Error {
	return &refusal.Error{
		Status: status, Kind: string(webhook.AppRefused),
		Reason: fmt.Sprintf("the app answered with %d, so nothing is published", status),
	}
}

// statusOf is what Caddy will answer a handler's error with.
func statusOf(err error) int {
	var status caddyhttp.HandlerError
	if errors.As(err, &status) && status.StatusCode != 0 {
		return status.StatusCode
	}
	return http.StatusInternalServerError
}

// forwardedAnswer is the app's answer on its way to the sender. At its status
// it is decided whether the sender gets it; if not, it goes nowhere.
type forwardedAnswer struct {
	*caddyhttp.ResponseWriterWrapper
	before  http.Header // what was set before the app's turn
	decide  func(status int) *refusal.Error
	status  int // zero: none yet
	refused *refusal.Error
}

func (w *forwardedAnswer) WriteHeader(status int) {
	isFinal := status >= 200 || status == http.StatusSwitchingProtocols
	if isFinal && w.status == 0 {
		w.status = status
		if w.refused = w.decide(status); w.refused != nil {
			clear(w.Header())
			maps.Copy(w.Header(), w.before)
		}
	}
	if w.refused == nil {
		w.ResponseWriterWrapper.WriteHeader(status)
	}
}

// begin is for what comes without a status.
func (w *forwardedAnswer) begin() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *forwardedAnswer) Write(p []byte) (int, error) {
	w.begin()
	if w.refused != nil {
		return len(p), nil
	}
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom keeps the way by which files are sent without copying.
func (w *forwardedAnswer) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	if w.refused != nil {
		return io.Copy(io.Discard, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError keeps a flush from sending a status that nobody has looked at.
func (w *forwardedAnswer) FlushError() error {
	w.begin()
	if w.refused != nil {
		return nil
	}
	return http.NewResponseController(w.ResponseWriterWrapper.ResponseWriter).Flush()
}
