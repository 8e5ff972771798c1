package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/jq"
)

// message maps a verified request. What is sent comes before the topics: a
// select that gives nothing drops the requests that have no topic, too.
func (wh *Webhook) message(p *payload) (*Message, *refusal.Error) {
	id, refused := wh.deliveryID(p)
	if refused != nil {
		return nil, refused
	}
	if id == "" && isEarly(p.request) {
		return nil, refusal.Newf(http.StatusTooEarly, "send it again when the TLS handshake is complete")
	}
	data, selected, refused := wh.content(p)
	if refused != nil || !selected {
		return nil, refused
	}
	topics, refused := wh.topicsOf(p)
	if refused != nil {
		return nil, refused
	}
	name, refused := wh.eventName(p)
	if refused != nil {
		return nil, refused
	}
	return &Message{topics, event.Event{ID: id, Name: name, Data: data}}, nil
}

// isEarly tells whether the request came as TLS early data, which who has
// caught it can send again (RFC 8470). Only a request with an id that is seen
// to come twice may be taken like that.
func isEarly(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete
}

// text is what the mapping comes to; empty if something in it is missing.
func (m mapping) text(p *payload) (string, *refusal.Error) {
	if m.mapped == nil {
		return "", nil
	}
	text, err := m.expand(p.value)
	if err == nil {
		return text, nil
	}
	if err.missing || m.lenient {
		return "", nil
	}
	return "", err.refuse(m.field)
}

// deliveryID has a digest in the place of an id that can't be sent. It is the
// same for the same id, so that a delivery that comes again is still known.
func (wh *Webhook) deliveryID(p *payload) (string, *refusal.Error) {
	id, refused := wh.id.text(p)
	if refused != nil || id == "" || event.CheckID(id) == nil {
		return id, refused
	}
	digest := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(digest[:24]), nil
}

func (wh *Webhook) eventName(p *payload) (string, *refusal.Error) {
	name, refused := wh.event.text(p)
	if refused != nil || name == "" {
		return "", refused
	}
	err := event.CheckName(name)
	switch {
	case err == nil:
		return name, nil
	case wh.event.lenient: // the sender would send it again and again
		return "", nil
	default:
		return "", unprocessable("%v", err)
	}
}

func unprocessable(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusUnprocessableEntity, format, args...)
}

func (wh *Webhook) topicsOf(p *payload) (topics []string, refused *refusal.Error) {
	if len(wh.topics) == 0 {
		topic := strings.TrimPrefix(p.request.URL.Path, "/")
		return []string{topic}, checkTopic(topic)
	}
	for _, t := range wh.topics {
		topic, err := t.expand(p.value)
		if err != nil {
			return nil, err.refuse(t.field)
		}
		if refused := checkTopic(topic); refused != nil {
			return nil, refused
		}
		if !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	return topics, nil
}

func checkTopic(topic string) *refusal.Error {
	if err := hub.CheckTopic(topic); err != nil {
		return unprocessable("%v", err)
	}
	return nil
}

// content is what is sent. It is false if the rule's select wants nothing sent.
func (wh *Webhook) content(p *payload) (data []byte, ok bool, refused *refusal.Error) {
	switch {
	case wh.program != nil:
		data, refused = wh.selected(p)
		return data, data != nil, refused
	case wh.data != nil:
		data, refused = wh.dataText(p)
	default:
		data, refused = p.bodyData()
	}
	return data, true, refused
}

// selected is nil if the program gives nothing.
func (wh *Webhook) selected(p *payload) ([]byte, *refusal.Error) {
	values, err := wh.program.Run(p.request.Context(), p.body)
	if err != nil {
		return nil, p.selectFailed(err)
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return nil, unprocessable("select gave %d values where one is sent: wrap it in [ ]", len(values))
}

func (p *payload) selectFailed(err error) *refusal.Error {
	var refused *refusal.Error
	switch {
	case errors.Is(err, jq.ErrNotJSON):
		refused = refusal.Newf(http.StatusBadRequest, "%s, which select needs", p.notJSON())
	case errors.Is(err, jq.ErrFailed):
		refused = unprocessable("select: %s", oneLine(err.Error()))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		refused = refusal.Newf(http.StatusRequestTimeout, "the request was given up")
	default: // a cause that another handler has given its context
		refused = refusal.Newf(http.StatusServiceUnavailable, "the request was given up")
	}
	refused.Err = err
	return refused
}

// oneLine makes a reason of an error that may quote the payload.
func oneLine(s string) string {
	const most = 300
	line := strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(line) > most {
		return strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}

// dataText leaves out what is missing.
func (wh *Webhook) dataText(p *payload) ([]byte, *refusal.Error) {
	text, err := wh.data.expand(func(name string) (string, *lookupError) {
		value, err := p.value(name)
		if err != nil && err.missing {
			return "", nil
		}
		return value, err
	})
	if err != nil {
		return nil, err.refuse(wh.data.field)
	}
	if !utf8.ValidString(text) {
		return nil, notUTF8()
	}
	return []byte(text), nil
}

// bodyData is the body as it came, or in an envelope if it is no text.
func (p *payload) bodyData() ([]byte, *refusal.Error) {
	contentType := p.request.Header.Get("Content-Type")
	switch {
	case utf8.Valid(p.body):
		return p.body, nil
	case isTextType(contentType):
		return nil, notUTF8()
	}
	return event.Binary(contentType, p.body), nil
}

func notUTF8() *refusal.Error {
	return refusal.Newf(http.StatusBadRequest, "the text is not UTF-8")
}
