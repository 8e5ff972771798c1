package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/jq"
)

// maxRunning is how long all jq programs may run for one request, which may be
// thousands of events.
var maxRunning = 5 * time.Second

var errRunning = fmt.Errorf("the programs of one request ran for more than %v", maxRunning)

// deliver maps a verified request to all that comes of it, or to nothing: if
// one of its parts is refused, it is refused as a whole.
func (wh *Webhook) deliver(p *payload, batch bool) (*Delivery, *refusal.Error) {
	ctx, cancel := context.WithTimeoutCause(p.request.Context(), maxRunning, errRunning)
	defer cancel()
	p.ctx = ctx
	id, refused := wh.deliveryID(p)
	if refused != nil && !wh.takesApart(batch) {
		return nil, refused
	}
	delivery := &Delivery{ID: id, Status: wh.sender.status, NoBody: wh.sender.noBody}
	if wh.takesApart(batch) && wh.id.looksInside() { // it may be that of one of many
		delivery.ID = ""
	}
	parts, refused := wh.parts(p, batch)
	if refused != nil {
		return nil, refused
	}
	for i, part := range parts {
		if part != p && !wh.id.looksInside() && id != "" { // else all had the same
			part.id = sendableID(fmt.Sprintf("%s-%d", id, i+1))
		}
		if refused := wh.add(delivery, part); refused != nil {
			return nil, refused
		}
	}
	return delivery, nil
}

// takesApart tells whether a request is more than one event, or may be.
func (wh *Webhook) takesApart(batch bool) bool { return batch || wh.split != nil }

// parts are what becomes an event of its own: the whole, unless the rule or the
// sender's kind says otherwise.
func (wh *Webhook) parts(p *payload, batch bool) (parts []*payload, refused *refusal.Error) {
	program := wh.split
	switch {
	case program == nil && batch:
		program = eachOfBatch
	case program == nil:
		return []*payload{p}, nil
	}
	values, refused := p.run("split", program)
	if refused != nil && wh.Split == "" && refused.Status == http.StatusBadRequest && !batch {
		return []*payload{p}, nil // the sender's kind has something else, too
	}
	for _, value := range values {
		parts = append(parts, p.part(value))
	}
	return parts, refused
}

var eachOfBatch = mustCompile(".[]")

func mustCompile(src string) *jq.Program {
	program, err := jq.Compile(src)
	if err != nil {
		panic(err)
	}
	return program
}

// run gives a program's outputs for the body.
func (p *payload) run(field string, program *jq.Program) ([][]byte, *refusal.Error) {
	document, err := p.document()
	switch {
	case err != nil:
		return nil, refusal.Newf(http.StatusBadRequest, "%s, which %s needs", err, field)
	case !utf8.Valid(document):
		return nil, notUTF8()
	}
	values, err := program.Run(p.ctx, document)
	if err != nil {
		return nil, p.programFailed(field, err)
	}
	return values, nil
}

// add adds what a part comes to. What is sent comes before the topics: what
// when and select drop may have no topic.
func (wh *Webhook) add(delivery *Delivery, p *payload) *refusal.Error {
	id, refused := wh.partID(p)
	if refused != nil {
		return refused
	}
	wanted, refused := wh.wanted(p)
	if refused != nil || !wanted {
		return refused
	}
	data, selected, refused := wh.content(p)
	if refused != nil || !selected {
		return refused
	}
	if refused := wh.addViews(delivery, p); refused != nil {
		return refused
	}
	if len(wh.refresh) > 0 && len(wh.topics) == 0 { // nothing of it leaves
		return nil
	}
	topics, refused := wh.topicsOf(p)
	if refused != nil {
		return refused
	}
	name, refused := wh.eventName(p)
	if refused != nil {
		return refused
	}
	message := Message{Topics: topics, Event: event.Event{ID: id, Name: name, Data: data}}
	delivery.distinguish(&message)
	delivery.Messages = append(delivery.Messages, message)
	return nil
}

// distinguish gives an event that has the id of another one of its request, but
// isn't the same, an id of its own: the hub would take it for that one. It is
// the same when the request comes again.
func (d *Delivery) distinguish(m *Message) {
	id := m.Event.ID
	if id == "" {
		return
	}
	if d.ids == nil {
		d.ids = make(map[string]Message)
	}
	first, taken := d.ids[id]
	if !taken {
		d.ids[id] = *m
		return
	}
	if isSame(first, *m) {
		return
	}
	m.Event.ID = sendableID(fmt.Sprintf("%s-%x", id, digestOf(*m)))
}

func isSame(a, b Message) bool { return bytes.Equal(digestOf(a), digestOf(b)) }

// digestOf is of all that an event is.
func digestOf(m Message) []byte {
	digest := sha256.New()
	_, _ = fmt.Fprintf(digest, "%q %q ", m.Topics, m.Event.Name)
	digest.Write(m.Event.Data)
	return digest.Sum(nil)[:8]
}

// partID is what an event is identified by.
func (wh *Webhook) partID(p *payload) (id string, refused *refusal.Error) {
	if id = p.id; id == "" {
		id, refused = wh.deliveryID(p)
	}
	if refused == nil && id == "" && bodies.IsEarly(p.request) {
		refused = bodies.TooEarly()
	}
	return id, refused
}

// wanted tells whether `when` holds: it gives something, and nothing that is
// false or null.
func (wh *Webhook) wanted(p *payload) (bool, *refusal.Error) {
	if wh.when == nil {
		return true, nil
	}
	values, refused := p.run("when", wh.when)
	for _, value := range values {
		if string(value) == "false" || string(value) == "null" {
			return false, nil
		}
	}
	return len(values) > 0, refused
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
	mapping := wh.id
	if p.by != nil && p.by.id != nil && mapping.lenient {
		mapping = *p.by.id
	}
	id, refused := mapping.text(p)
	if refused != nil || id == "" {
		return "", refused
	}
	return sendableID(id), nil
}

func sendableID(id string) string {
	if event.CheckID(id) == nil {
		return id
	}
	digest := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(digest[:24])
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
		return wh.defaultTopics(p)
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

// defaultTopics are the request's path and, where the payload has what it takes,
// the one that the sender's kind has beside it.
func (wh *Webhook) defaultTopics(p *payload) ([]string, *refusal.Error) {
	topics := []string{strings.TrimPrefix(p.request.URL.Path, "/")}
	if refused := checkTopic(topics[0]); refused != nil {
		return nil, refused
	}
	own, _ := mapping{wh.ownTopic, true}.text(p) // it is lenient: nothing is refused
	if own != "" && own != topics[0] && hub.CheckTopic(own) == nil {
		topics = append(topics, own)
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
	values, refused := p.run("select", wh.program)
	if refused != nil {
		return nil, refused
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return nil, unprocessable("select gave %d values where one is sent: wrap it in [ ]", len(values))
}

func (p *payload) programFailed(field string, err error) *refusal.Error {
	var refused *refusal.Error
	switch {
	case errors.Is(err, jq.ErrNotJSON):
		refused = refusal.Newf(http.StatusBadRequest, "%s, which %s needs", p.notJSON(), field)
	case errors.Is(err, errRunning):
		refused = unprocessable("%s: %s", field, errRunning)
	case errors.Is(err, jq.ErrFailed):
		refused = unprocessable("%s: %s", field, oneLine(err.Error()))
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
	contentType := p.contentType
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
