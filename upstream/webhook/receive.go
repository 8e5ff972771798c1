package webhook

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"

	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Handshake answers a request that asks, by another method than POST, whether
// the sender may deliver here. It returns nil, and no error, if the request is
// none of these. Every error is a [refusal.Error].
func (wh *Webhook) Handshake(r *http.Request, repl *caddy.Replacer) (*HandshakeResponse, error) {
	if wh.Forward == ForwardSync { // the app answers, as ever
		return nil, nil
	}
	answer, refused := wh.asked(&received{Request: r, repl: repl})
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	return answer, nil
}

func (wh *Webhook) asked(d *received) (*HandshakeResponse, *refusal.Error) {
	if wh.sender.asks == nil {
		return nil, nil
	}
	return ofHandshake(wh.sender.asks(wh.sender, d, nil))
}

// Receive makes the events that a request stands for. It returns a delivery
// without messages and views, and no error, if the rule wants nothing of it:
// the request is acknowledged and dropped. Every error is a [refusal.Error].
//
// If the rule passes requests on, what is verified and can't be published is no
// error, but a delivery whose Refused says why.
//
// The body is read to its end and put back as it came, so that another handler
// can read it. repl must be the request's own; it isn't changed.
func (wh *Webhook) Receive(w http.ResponseWriter, r *http.Request, repl *caddy.Replacer) (*Delivery, error) {
	d := &received{Request: r, repl: repl}
	delivery, refused := wh.receive(w, d)
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	return delivery, nil
}

func (wh *Webhook) receive(w http.ResponseWriter, d *received) (*Delivery, *refusal.Error) {
	if answer, refused := wh.asked(d); answer != nil || refused != nil {
		return &Delivery{Answer: answer}, refused
	}
	proven, refused := wh.verified(w, d)
	if refused != nil {
		return nil, refused
	}
	body := d.body
	if d.body, refused = decoded(d.Request, body, wh.maxBody()); refused != nil {
		return nil, refused
	}
	if refused := checkNames(d.body, d.Header.Get("Content-Type")); refused != nil {
		return wh.unpublished(d, refused, body)
	}
	if wh.sender.object && !isObject(d.body) {
		return nil, refusal.Newf(http.StatusBadRequest, "the body is no JSON object")
	}
	if wh.Forward == ForwardSync && wh.greets(d, proven) {
		return &Delivery{Body: body, IsHandshake: true}, nil
	}
	if wh.Forward != ForwardSync && wh.sender.greets != nil {
		if answer, refused := ofHandshake(wh.sender.greets(wh.sender, d, proven)); answer != nil || refused != nil {
			return &Delivery{Answer: answer}, refused
		}
	}
	d.body = withoutSecrets(d.body, d.Header.Get("Content-Type"), wh.sender.secrets)
	delivery, refused := wh.mapped(d, proven)
	if refused != nil {
		return wh.unpublished(d, refused, body)
	}
	delivery.Body = body
	return delivery, nil
}

// unpublished is a delivery that is passed on although it can't be published,
// if the rule passes any on. What has no proof of being sent once, and what is
// given up, isn't.
func (wh *Webhook) unpublished(d *received, refused *refusal.Error, body []byte) (*Delivery, *refusal.Error) {
	switch {
	case wh.Forward == "", bodies.IsEarly(d.Request), refused.Status == http.StatusTooEarly,
		refused.Status == http.StatusRequestTimeout, refused.Status == http.StatusServiceUnavailable:
		return nil, refused
	}
	return &Delivery{Body: body, Status: wh.sender.status, NoBody: wh.sender.noBody, Refused: refused}, nil
}

// verified reads the body and checks who has sent it. What needs no body is
// checked first.
func (wh *Webhook) verified(w http.ResponseWriter, d *received) (by *proven, refused *refusal.Error) {
	if _, early := wh.sender.checker.(headerChecker); early {
		if by, refused = wh.check(w, d); refused != nil {
			return nil, refused
		}
	}
	if d.body, refused = bodies.Read(w, d.Request, wh.maxBody()); refused != nil || by != nil {
		return by, refused
	}
	return wh.check(w, d)
}

func (wh *Webhook) check(w http.ResponseWriter, d *received) (*proven, *refusal.Error) {
	by, refused := wh.sender.check(d)
	if refused != nil && wh.sender.proof == byPassword && refused.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="webhook"`) // Twilio, for one, waits for it
	}
	return by, refused
}

// greets tells whether a signed request is a handshake, without doing what it
// asks for.
func (wh *Webhook) greets(d *received, by *proven) bool {
	switch {
	case wh.sender.greets == nil:
		return false
	case wh.sender.sns != nil: // whose answer is a request of our own
		message, err := uniqueTexts(d.body)
		return err == nil && message["Type"] != "Notification"
	}
	answer, refused := wh.sender.greets(wh.sender, d, by)
	return answer != nil || refused != nil
}

// mapped maps a proven request whose body is decoded.
func (wh *Webhook) mapped(d *received, by *proven) (*Delivery, *refusal.Error) {
	contentType, batch := d.Header.Get("Content-Type"), false
	if wh.sender.cloudEvents {
		event, isBatch, refused := cloudEvent(d.Request, d.body)
		if refused != nil {
			return nil, refused
		}
		if batch = isBatch; event != nil {
			d.body, contentType = event, cloudEventType
		}
	}
	p := newPayload(d.Request, d.repl, d.body, contentType)
	p.by = by
	return wh.deliver(p, batch)
}

func (wh *Webhook) maxBody() int64 {
	if wh.MaxBody > 0 {
		return wh.MaxBody
	}
	return DefaultMaxBody
}
