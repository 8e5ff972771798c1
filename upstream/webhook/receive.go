package webhook

import (
	"cmp"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Handshake answers a request by another method than POST that asks whether the
// sender may deliver here. It returns nil and no error if the request is no such
// handshake, or if the app answers handshakes. Every error is a [refusal.Error].
func (wh *Webhook) Handshake(r *http.Request, repl *caddy.Replacer) (*HandshakeResponse, error) {
	if wh.Forward == ForwardSync {
		return nil, nil
	}
	response, refused := wh.answerUnsignedHandshake(newRequest(r, repl))
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	return response, nil
}

// Receive verifies a request and maps it to events. It returns a delivery
// without messages and refresh targets, and no error, if the rule drops the
// request. Every error is a [refusal.Error].
//
// If the rule forwards requests, a verified request that can't be published
// isn't an error: the delivery's Refused is set.
//
// Receive reads the body to its end and puts its bytes back, so that another
// handler can read it. repl must be the request's own; Receive doesn't change
// it. Call the delivery's Release when the body is no longer needed.
func (wh *Webhook) Receive(w http.ResponseWriter, r *http.Request, repl *caddy.Replacer) (received *Delivery, err error) {
	request := newRequest(r, repl)
	request.hold = largeBodies.Hold(clientNetwork(r), wh.maxBody())
	defer func() {
		if received == nil {
			request.hold.Release()
		}
	}()
	delivery, refused := wh.receive(w, request)
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	delivery.hold = request.hold
	return delivery, nil
}

// Release ends the delivery: the memory of its body counts no more against what
// the bodies of all rules may hold together.
func (d *Delivery) Release() { d.hold.Release() }

func (wh *Webhook) receive(w http.ResponseWriter, r *request) (*Delivery, *refusal.Error) {
	if response, refused := wh.answerUnsignedHandshake(r); response != nil || refused != nil {
		return &Delivery{HandshakeResponse: response}, refused
	}
	if refused := wh.refuseEventGrid(r); refused != nil {
		return nil, refused
	}
	if refused := wh.verify(w, r); refused != nil {
		return nil, refused
	}
	if refused := r.decode(wh.maxBody()); refused != nil {
		return nil, refused
	}
	if refused := r.readContent(wh.verifier.jsonInForm, wh.maxBody()); refused != nil {
		return wh.forwardOnly(r, refused)
	}
	if wh.verifier.objectOnly && !r.content.isObject() {
		return nil, refusal.Newf(http.StatusBadRequest, "the body is not a JSON object")
	}
	if delivery, refused := wh.receiveHandshake(r); delivery != nil || refused != nil {
		return delivery, refused
	}
	redacted, refused := r.content.redacted(wh.verifier.redact)
	if refused != nil {
		return wh.forwardOnly(r, refused)
	}
	r.content = redacted
	delivery, refused := wh.mapper.deliveryOf(r)
	if refused != nil {
		return wh.forwardOnly(r, refused)
	}
	delivery.Body = r.raw
	return delivery, nil
}

// verify reads the body and checks who has sent the request. A checker that
// needs only the headers runs before the module reads the body.
func (wh *Webhook) verify(w http.ResponseWriter, r *request) *refusal.Error {
	_, headersOnly := wh.verifier.checker.(headerChecker)
	if headersOnly {
		if refused := wh.check(w, r); refused != nil {
			return refused
		}
	}
	if refused := r.read(w, wh.maxBody()); refused != nil || headersOnly {
		return refused
	}
	return wh.check(w, r)
}

func (wh *Webhook) check(w http.ResponseWriter, r *request) *refusal.Error {
	refused := wh.verifier.check(r)
	if refused != nil && wh.verifier.method == byPassword && refused.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="webhook"`) // Twilio, for one, waits for it
	}
	return refused
}

// forwardOnly returns a delivery that the app gets although the module can't
// publish it, if the rule forwards requests. It refuses early data, which an
// attacker can send again, and requests that have timed out.
func (wh *Webhook) forwardOnly(r *request, refused *refusal.Error) (*Delivery, *refusal.Error) {
	switch {
	case wh.Forward == "", bodies.IsEarly(r.Request), refused.Status == http.StatusTooEarly,
		refused.Status == http.StatusRequestTimeout, refused.Status == http.StatusServiceUnavailable:
		return nil, refused
	}
	return &Delivery{Body: r.raw, Status: wh.verifier.status, NoBody: wh.verifier.noBody, Refused: refused}, nil
}

// answerUnsignedHandshake answers a handshake that the sender doesn't sign. It
// returns nil and no refusal if the request is no such handshake.
func (wh *Webhook) answerUnsignedHandshake(r *request) (*HandshakeResponse, *refusal.Error) {
	return wh.answer(wh.verifier.unsignedHandshake, r)
}

// receiveHandshake answers a signed handshake, or leaves it to the app. It
// returns nil and no refusal if the request is no handshake.
func (wh *Webhook) receiveHandshake(r *request) (*Delivery, *refusal.Error) {
	if wh.Forward == ForwardSync {
		if wh.isHandshake(r) {
			return &Delivery{Body: r.raw, IsHandshake: true}, nil
		}
		return nil, nil
	}
	response, refused := wh.answer(wh.verifier.signedHandshake, r)
	if response == nil {
		return nil, refused
	}
	return &Delivery{HandshakeResponse: response}, nil
}

// isHandshake reports whether a signed request is a handshake, without doing
// what it asks for.
func (wh *Webhook) isHandshake(r *request) bool {
	if wh.verifier.sns != nil { // whose answer is a request to Amazon SNS
		message, err := uniqueTexts(r.content.body)
		return err == nil && message["Type"] != "Notification"
	}
	response, refused := wh.answer(wh.verifier.signedHandshake, r)
	return response != nil || refused != nil
}

func (wh *Webhook) answer(h handshake, r *request) (*HandshakeResponse, *refusal.Error) {
	if h == nil {
		return nil, nil
	}
	response, refused := h(wh.verifier, r)
	if refused != nil && refused.Kind == "" {
		refused.Kind = string(BadHandshake)
	}
	return response, refused
}

func (wh *Webhook) maxBody() int64 {
	return cmp.Or(wh.MaxBody, wh.verifier.maxBody, DefaultMaxBody)
}
