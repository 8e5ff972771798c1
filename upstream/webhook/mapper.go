package webhook

import (
	"cmp"
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

// maxProgramTime limits how long all jq programs of one request run together: a
// request may be thousands of events.
var maxProgramTime = 5 * time.Second

var errProgramTime = fmt.Errorf("the programs of one request ran for more than %v", maxProgramTime)

// mapper maps verified requests to deliveries, as the rule's options and the
// sender's row say. It is safe for concurrent use.
type mapper struct {
	topics      []*fieldTemplate
	senderTopic *fieldTemplate // a second default topic
	event       optionalTemplate
	id          optionalTemplate
	hook        string // the header that names one of the sender's webhooks
	keepsNoIDs  bool   // the option `dedupe off`
	split       *jq.Program
	// senderSplit means that split comes from the sender's row: a body that
	// doesn't fit it is one event.
	senderSplit bool
	when        *jq.Program
	selection   *jq.Program // the option select
	data        *fieldTemplate
	refresh     []*refreshTemplate
	cloudEvents bool
	status      int
	noBody      bool
}

func newMapper(wh *Webhook, s sender) (*mapper, error) {
	if wh.Select != "" && wh.Data != "" {
		return nil, errors.New("select and data both set the event's data: use one of them")
	}
	m := &mapper{
		senderSplit: wh.Split == "", cloudEvents: s.cloudEvents, status: s.status, noBody: s.noBody,
		hook: s.hook, keepsNoIDs: wh.Dedupe != nil && wh.Dedupe.Off,
	}
	if err := m.compileTemplates(wh, s); err != nil {
		return nil, err
	}
	return m, m.compilePrograms(wh, s)
}

func (m *mapper) compileTemplates(wh *Webhook, s sender) (err error) {
	if m.topics, err = compileTopics(wh.Topics); err != nil {
		return err
	}
	if m.senderTopic, err = compileTemplate("topic", s.topic); err != nil {
		return err
	}
	if m.event, err = compileOptional("event", wh.Event, s.event); err != nil {
		return err
	}
	if m.id, err = compileOptional("id", wh.ID, s.id); err != nil {
		return err
	}
	if m.refresh, err = compileRefresh(wh.Refresh); err != nil {
		return err
	}
	m.data, err = compileTemplate("data", wh.Data)
	return err
}

func (m *mapper) compilePrograms(wh *Webhook, s sender) (err error) {
	for _, p := range []struct {
		field, src string
		program    **jq.Program
	}{
		{"split", cmp.Or(wh.Split, s.split), &m.split},
		{"when", wh.When, &m.when},
		{"select", wh.Select, &m.selection},
	} {
		if p.src == "" {
			continue
		}
		if *p.program, err = jq.Compile(p.src); err != nil {
			return fmt.Errorf("%s: %w", p.field, err)
		}
	}
	return nil
}

func compileTopics(sources []string) (topics []*fieldTemplate, err error) {
	for _, src := range sources {
		if src == "" {
			return nil, errors.New("topic is empty")
		}
		topic, err := compileTemplate("topic", src)
		if err != nil {
			return nil, err
		}
		topics = append(topics, topic)
	}
	return topics, nil
}

// deliveryOf maps a verified request to a delivery with all of its events, or to
// none: it refuses the request if it refuses one part.
func (m *mapper) deliveryOf(r *request) (*Delivery, *refusal.Error) {
	if m.cloudEvents {
		if refused := r.readCloudEvents(); refused != nil {
			return nil, refused
		}
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), maxProgramTime, errProgramTime)
	defer cancel()
	whole := &part{content: r.content, request: r, ctx: ctx}
	id, refused := m.deliveryID(whole)
	if refused != nil && !m.splits(r) {
		return nil, refused
	}
	delivery := &Delivery{Status: m.status, NoBody: m.noBody}
	if !m.splits(r) || !m.id.usesBody() { // else it may be the ID of one of many elements
		delivery.ID = m.recordID(r, id)
	}
	parts, refused := m.parts(whole)
	if refused != nil {
		return nil, refused
	}
	for i, p := range parts {
		if p != whole && !m.id.usesBody() && id != "" { // else all had the same
			p.id = sendableID(fmt.Sprintf("%s-%d", id, i+1))
		}
		if refused := m.add(delivery, p); refused != nil {
			return nil, refused
		}
	}
	return delivery, nil
}

// splits reports whether a request may be more than one event.
func (m *mapper) splits(r *request) bool { return r.isBatch || m.split != nil }

var eachOfBatch = mustCompile(".[]")

func mustCompile(src string) *jq.Program {
	program, err := jq.Compile(src)
	if err != nil {
		panic(err)
	}
	return program
}

// parts returns what becomes an event of its own: the whole request, unless the
// rule or the sender splits it.
func (m *mapper) parts(whole *part) (parts []*part, refused *refusal.Error) {
	program, isBatch := m.split, whole.request.isBatch
	switch {
	case program == nil && isBatch:
		program = eachOfBatch
	case program == nil:
		return []*part{whole}, nil
	}
	values, refused := whole.run("split", program)
	if refused != nil && m.senderSplit && refused.Status == http.StatusBadRequest && !isBatch {
		return []*part{whole}, nil // the sender has other kinds of requests, too
	}
	for _, value := range values {
		parts = append(parts, whole.element(value))
	}
	return parts, refused
}

// add adds the event and the refresh targets of a part to the delivery. It
// evaluates when and select before the topics: a part that they drop needs none.
func (m *mapper) add(delivery *Delivery, p *part) *refusal.Error {
	id, refused := m.eventID(delivery, p)
	if refused != nil {
		return refused
	}
	wanted, refused := m.wanted(p)
	if refused != nil || !wanted {
		return refused
	}
	data, selected, refused := m.eventData(p)
	if refused != nil || !selected {
		return refused
	}
	if refused := m.addRefresh(delivery, p); refused != nil {
		return refused
	}
	if len(m.refresh) > 0 && len(m.topics) == 0 { // the rule publishes nothing
		return nil
	}
	if len(data) == 0 && m.data == nil && p.media.isJSON() {
		return refusal.Newf(http.StatusBadRequest, "the body is empty, but its content type says JSON")
	}
	topics, refused := m.topicsOf(p)
	if refused != nil {
		return refused
	}
	given, refused := m.event.expand(p)
	if refused != nil {
		return refused
	}
	name := event.SafeName(given)
	if name != given {
		delivery.Renamed = append(delivery.Renamed, Renamed{given, name})
	}
	message := Message{Topics: topics, Event: event.Event{ID: id, Name: name, Data: data}}
	delivery.distinguish(&message)
	delivery.Messages = append(delivery.Messages, message)
	return nil
}

// distinguish changes the ID of an event whose ID another event of its delivery
// has already, unless both are the same: the hub would drop it as a duplicate.
// The new ID is the same when the request comes again.
func (d *Delivery) distinguish(m *Message) {
	id := m.Event.ID
	if id == "" {
		return
	}
	if d.firstByID == nil {
		d.firstByID = make(map[string]Message)
	}
	first, taken := d.firstByID[id]
	if !taken {
		d.firstByID[id] = *m
		return
	}
	if digest := messageDigest(*m); digest != messageDigest(first) {
		m.Event.ID = sendableID(fmt.Sprintf("%s-%x", id, digest))
	}
}

func messageDigest(m Message) [8]byte {
	digest := sha256.New()
	_, _ = fmt.Fprintf(digest, "%q %q ", m.Topics, m.Event.Name)
	digest.Write(m.Event.Data)
	return [8]byte(digest.Sum(nil))
}

// deliveryID returns the ID of the delivery, or a digest of an ID that an event
// stream can't carry. The same ID always has the same digest.
func (m *mapper) deliveryID(p *part) (string, *refusal.Error) {
	id, refused := m.idTemplate(p.request).expand(p)
	if refused != nil || id == "" {
		return "", refused
	}
	return sendableID(id), nil
}

// idTemplate returns the template of the delivery's ID. It may depend on which of
// the sender's headers were signed.
func (m *mapper) idTemplate(r *request) optionalTemplate {
	if r.scheme != nil && r.scheme.id != nil && m.id.lenient {
		return *r.scheme.id
	}
	return m.id
}

// recordID returns the ID that the module remembers the delivery by. An ID that
// the signature doesn't cover may come with several bodies, by design of the
// sender, by mistake, or by an attacker: it counts together with the body.
func (m *mapper) recordID(r *request, id string) string {
	if id == "" || m.idTemplate(r).isSigned(r.scheme) {
		return id
	}
	return fmt.Sprintf("%s %x", id, m.digest(r, r.content))
}

// digest is that of a content, for one of the sender's webhooks.
func (m *mapper) digest(r *request, c *content) []byte {
	digest := sha256.New()
	if m.hook != "" {
		_, _ = fmt.Fprintf(digest, "%q ", r.Header.Get(m.hook))
	}
	digest.Write(c.body)
	return digest.Sum(nil)
}

func sendableID(id string) string {
	if event.CheckID(id) == nil {
		return id
	}
	digest := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(digest[:24])
}

// eventID refuses early data without an ID: an attacker can send it again. If the
// module keeps no record of the delivery, the event's ID alone decides what a
// duplicate is, so it gets the body's digest as [mapper.recordID] does.
func (m *mapper) eventID(d *Delivery, p *part) (id string, refused *refusal.Error) {
	counted := p.request.content
	if id = p.id; id == "" {
		id, refused = m.deliveryID(p)
		counted = p.content
	}
	switch {
	case refused != nil:
	case id == "" && bodies.IsEarly(p.request.Request):
		refused = bodies.TooEarly()
	case id != "" && (d.ID == "" || m.keepsNoIDs) && !m.idTemplate(p.request).isSigned(p.request.scheme):
		id = sendableID(fmt.Sprintf("%s-%x", id, m.digest(p.request, counted)[:8]))
	}
	return id, refused
}

// wanted reports whether the option when holds: the program outputs something,
// and neither false nor null.
func (m *mapper) wanted(p *part) (bool, *refusal.Error) {
	if m.when == nil {
		return true, nil
	}
	values, refused := p.run("when", m.when)
	for _, value := range values {
		if string(value) == "false" || string(value) == "null" {
			return false, nil
		}
	}
	return len(values) > 0, refused
}

func (m *mapper) topicsOf(p *part) (topics []string, refused *refusal.Error) {
	if len(m.topics) == 0 {
		return m.defaultTopics(p)
	}
	for _, t := range m.topics {
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

// defaultTopics returns the request's path and the sender's topic, if the
// payload has one.
func (m *mapper) defaultTopics(p *part) ([]string, *refusal.Error) {
	topics := []string{strings.TrimPrefix(p.request.URL.Path, "/")}
	if refused := checkTopic(topics[0]); refused != nil {
		return nil, refused
	}
	topic, _ := optionalTemplate{m.senderTopic, true}.expand(p) // a lenient template refuses nothing
	if topic != "" && topic != topics[0] && hub.CheckTopic(topic) == nil {
		topics = append(topics, topic)
	}
	return topics, nil
}

func checkTopic(topic string) *refusal.Error {
	if err := hub.CheckTopic(topic); err != nil {
		return unprocessable("%v", err)
	}
	return nil
}

// eventData returns false if the option select drops the part.
func (m *mapper) eventData(p *part) (data []byte, ok bool, refused *refusal.Error) {
	switch {
	case m.selection != nil:
		if data, refused = m.selected(p); refused == nil && p.givesNothing(m.selection, data) {
			refused = unprocessable("select can read nothing of %s: it gives only null. Mend it, or drop such requests with when", p.kind())
		}
		return data, data != nil, refused
	case m.data != nil:
		data, refused = m.dataText(p)
	default:
		data, refused = p.content.data()
	}
	return data, true, refused
}

// selected returns nil if the program outputs nothing.
func (m *mapper) selected(p *part) ([]byte, *refusal.Error) {
	values, refused := p.run("select", m.selection)
	if refused != nil {
		return nil, refused
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return nil, unprocessable("select gave %d values, but an event has one: wrap them in [ ]", len(values))
}

// dataText leaves out missing placeholders.
func (m *mapper) dataText(p *part) ([]byte, *refusal.Error) {
	text, err := m.data.expand(func(name string) (string, *lookupError) {
		value, err := p.value(name)
		if err != nil && err.missing {
			return "", nil
		}
		return value, err
	})
	if err != nil {
		return nil, err.refuse(m.data.field)
	}
	if !utf8.ValidString(text) {
		return nil, notUTF8()
	}
	return []byte(text), nil
}

func unprocessable(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusUnprocessableEntity, format, args...)
}
