package poll

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// publisher publishes a view's events: the document's on the document's topic,
// while the view holds the topic's lease, and those about the view alone on its
// end topic. endTopic and instance change no more after the first poll. The goroutine
// that polls is the only one that uses lease, outage, unsent and followed.
type publisher struct {
	view     *view
	endTopic string     // of stale, gone and complete
	instance string     // makes the document's topic unique, if the view sends changes
	process  string     // makes it unique among the processes that share the hub
	lease    *lease     // nil before the first document
	outage   *outageKey // while the backend fails
	unsent   bool       // the last document was not published; see takeUnsent
	followed string     // the key under which the view may have a successor; empty if it has none
	resigned bool       // a view of the next configuration publishes on the topics; mu guards it

	// mu is held from an event's publication until the state has it, and while a
	// viewer subscribes: it comes before both or after both.
	mu sync.Mutex
}

func (p *publisher) init(v *view) {
	own := rand.Text()
	p.view, p.endTopic, p.process = v, endPrefix+own, v.poller.hub.Process()
	if v.state.incremental {
		p.instance = "/" + own
	}
}

// endPrefix begins the names of end topics.
const endPrefix = "\x00end/"

// takeUnsent reports, once, whether a document was not published: the next poll
// must get it again, whether it has changed or not.
func (p *publisher) takeUnsent() bool {
	unsent := p.unsent
	p.unsent = false
	return unsent
}

// confirm handles a response that confirms the document. It sends the document
// again if the viewers have received stale, or if another view's event is the
// last on the topic.
func (p *publisher) confirm(result outcome) outcome {
	p.view.poller.failures.end(&p.outage)
	if p.view.poller.config.isShaped() {
		return p.confirmShaped(result)
	}
	if p.view.state.stale != nil && p.view.state.doc != nil || p.isOvertaken() {
		if p.publishAll(p.view.state.doc, []event.Event{p.view.state.doc.event()}) == failed {
			return failed
		}
	}
	return result
}

// isOvertaken reports whether the last event on the topic is newer than the
// view's document: a view that held the lease before has published it.
func (p *publisher) isOvertaken() bool {
	if p.instance != "" || p.view.state.at == nil {
		return false
	}
	held, release := p.acquireLease()
	defer release()
	last := p.view.poller.hub.Last(p.lease.topic)
	return held && last != nil && last.Seq > p.view.state.at.Seq
}

// snapshot returns the events for a viewer that has no document yet and has
// subscribed. If another view has published a newer document on the topic, the
// viewer receives that one: its cursor may begin after it.
func (p *publisher) snapshot() []*store.Entry {
	own := p.view.state.snapshot()
	last := p.view.poller.hub.Last(p.topic())
	if p.instance != "" || len(own) == 0 || last == nil || last.Seq <= own[0].Seq {
		return own
	}
	newer := slices.DeleteFunc(own, func(e *store.Entry) bool { return e.Seq <= last.Seq })
	return slices.Insert(newer, 0, last)
}

// publishChange publishes the difference to the last document, if there is any.
func (p *publisher) publishChange(ctx context.Context, doc *document) outcome {
	if p.view.state.doc != nil && p.view.state.doc.equal(doc) {
		return p.confirm(unchanged)
	}
	if p.view.poller.config.isShaped() {
		return p.publishShaped(doc)
	}
	return p.publishAll(doc, p.changes(ctx, doc))
}

// changes returns the events that bring the viewers to a new document.
func (p *publisher) changes(ctx context.Context, doc *document) []event.Event {
	whole := []event.Event{doc.event()}
	if p.view.state.doc == nil || p.view.state.stale != nil || p.view.state.doc.json == nil || doc.json == nil {
		return whole
	}
	config := p.view.poller.config
	events, err := config.mode.Events(ctx, p.view.state.doc.json, doc.json)
	if err != nil {
		p.view.poller.log.Error("change can't be expressed as events, sending the whole document", p.view.fields(zap.Error(err))...)
		return whole
	}
	if config.Send == "jq" {
		return doc.takeComplete(events)
	}
	if len(events) == 1 && events[0].Name == "" {
		return whole // with its name
	}
	return events
}

// adopt continues where an earlier view of the key has ended, perhaps under an
// earlier configuration: a client that has its last document needs no event. It
// is called before the view has viewers, which would miss the document.
func (p *publisher) adopt(doc *document) bool {
	last := p.view.poller.hub.Last(p.topic())
	frame, err := doc.event().Encode()
	if err != nil || last == nil || !bytes.Equal(last.Frame.WithoutID(), frame) {
		return false
	}
	p.view.state.set(doc, last, nil)
	return true
}

// publishAll publishes the events that bring the viewers to a document. There may
// be none, if the rule's mode leaves the change out. A view without the topic's
// lease publishes nothing: its viewers receive the events of the lease's holder,
// or move to the next configuration.
func (p *publisher) publishAll(doc *document, events []event.Event) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	held, release := p.acquireLease()
	defer release()
	switch {
	case !held:
		p.unsent = true // it may get the lease by the next poll
		if p.view.state.at == nil || p.lease.holder == nil {
			p.view.moved.Set()
		}
		return unchanged
	case !isClosed(p.view.polled) && p.adopt(doc):
		return unchanged
	}
	at := p.view.state.at
	for _, e := range events {
		published, err := p.publish(e, p.topic())
		if err != nil {
			// The next poll tries again with the whole document: how many of
			// the events the viewers have is unknown.
			p.unsent = true
			p.view.state.set(nil, nil, p.view.state.stale)
			return failed
		}
		at = published
	}
	p.view.poller.failures.end(&p.outage)
	p.view.state.set(doc, at, nil)
	p.recordSaved(doc, sizeOf(events))
	return changed
}

// publishComplete ends the view with its document, and the data of complete. The
// event goes to two topics of its own, so that the document stays the last event on the document's topic:
// to the end topic for this view's viewers, since the view of another
// configuration may go on, and to the finished topic, which proves that a client
// that reconnects has this very document. If another view holds the lease, the
// viewers may not have the document, and move to that view.
func (p *publisher) publishComplete(doc *document) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	held, release := p.acquireLease()
	defer release()
	if !held || p.resigned {
		p.view.moved.Set()
		return ended
	}
	topic := p.finishedTopic(p.view.state.doc, doc)
	last := p.view.poller.hub.Last(topic)
	if last == nil || !p.isEndOfView(last) {
		var err error
		if last, err = p.publish(event.Event{Name: "complete", Data: doc.completion()}, topic, p.endTopic); err != nil {
			return ended
		}
	}
	p.view.state.setComplete(last, topic)
	p.view.final.Store(true)
	return ended
}

// isEndOfView reports whether the viewers receive an event that has ended a view with
// the same document: it was published by this process, after all that they have.
func (p *publisher) isEndOfView(e *store.Entry) bool {
	s := &p.view.state
	switch {
	case p.process != "":
		return false
	case p.view.poller.config.isShaped():
		return e.Seq > s.base && e.On(p.endTopic)
	default:
		return s.at == nil || e.Seq > s.at.Seq
	}
}

// publishStale tells the view's viewers, once, that their document may be out of
// date. It leaves out viewers of other views on the topic. If the configuration
// was replaced, its viewers move to the next one instead: that may have another
// backend.
func (p *publisher) publishStale(status int, err error) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isReplacedLocked() {
		p.view.moved.Set()
		return failed
	}
	if p.view.state.stale != nil {
		return failed
	}
	if status == 0 {
		status = statusOf(err)
	}
	p.view.state.setStatus(status)
	if p.outage == nil && !errors.Is(err, errAwaited) { // or it was logged, and could not be published
		p.outage = p.view.poller.failures.begin(p.view.target.hostname, status, err, p.view.fields()...)
	}
	if e, err := p.publish(stream.Stale(time.Now(), status), p.endTopic); err == nil {
		p.view.state.set(p.view.state.doc, p.view.state.at, e)
	}
	return failed
}

// end handles a response by which there is no document, or not for these viewers.
// Viewers that wait for the first poll get the response as it is; so do the
// others, when they reconnect.
func (p *publisher) end(resp *subrequest.Response, first bool) {
	if !first && isTemporaryRedirect(resp.Status) {
		p.view.recordRedirect()
	}
	instead := p.view.refusalInstead(resp)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case first && instead != nil:
		p.view.state.fail(instead, nil)
	case first:
		p.view.state.refuse(resp)
	case p.isReplacedLocked(): // the next configuration decides
		p.view.moved.Set()
	case isGone(resp.Status):
		notice, _ := json.Marshal(map[string]int{"status": resp.Status})
		_, err := p.publish(event.Event{Name: "gone", Data: notice}, p.endTopic) // the streams end with or without it
		p.view.final.Store(err == nil)
	}
}

func (p *publisher) publish(e event.Event, topics ...string) (*store.Entry, error) {
	entry, _, err := p.view.poller.hub.Publish(topics, e)
	if err != nil {
		p.logFailure(e.Name, err)
	}
	return entry, err
}

func (p *publisher) logFailure(name string, err error) {
	if suppressed, ok := p.view.poller.publishFailures.Allow(time.Now()); ok {
		p.view.poller.log.Error("event not published", p.view.fields(zap.String("event", name), zap.Error(err), zap.Int("not_logged_since", suppressed))...)
	}
}

// topic returns the document's topic. No webhook or subscription can name it: it
// begins with a control character.
//
// Views of one key share it, one after the other, if they send whole documents.
// A patch needs the document that it was made for, so each view that sends
// changes has a topic of its own. So have the views of each process that shares the
// hub: each process polls for its own viewers.
func (p *publisher) topic() string {
	return "\x00poll/" + p.view.state.currentKey() + p.instance + p.process
}

// finishedTopic returns the topic of the events that ended views of the key with
// a document, whose end is that of another or the same. The data of a program's end
// are no part of it: they may come from the document before.
func (p *publisher) finishedTopic(doc, end *document) string {
	parts := []string{string(doc.text)}
	switch {
	case end.byProgram:
		parts = append(parts, "program", p.view.poller.config.SendArgument)
	case end.end != nil && string(end.end) != "{}":
		parts = append(parts, string(end.end))
	}
	return "\x00finished/" + p.view.state.currentKey() + "/" + p.view.poller.hub.Digest(parts...)
}

// acquireLease acquires the topic's lease for the view, if the view may hold it,
// and reports whether the view holds it. This doesn't change until release is
// called.
func (p *publisher) acquireLease() (held bool, release func()) {
	first := p.lease == nil
	if first {
		p.lease = p.view.poller.config.Leases.join(p.topic())
	}
	p.lease.mu.Lock()
	return p.lease.acquireLocked(p.view, first), p.lease.mu.Unlock
}

// releaseLease gives the lease up for good.
func (p *publisher) releaseLease() {
	if p.lease != nil {
		p.lease.leave(p.view)
	}
}

// recordSaved reports to the observer how many bytes a change was shorter than
// the document, for all viewers together.
func (p *publisher) recordSaved(doc *document, sent int) {
	saved := len(doc.text) - sent
	if saved > 0 && p.instance != "" { // otherwise the event is the document
		p.view.poller.mu.Lock()
		viewers := p.view.viewers.streams
		p.view.poller.mu.Unlock()
		p.view.poller.observer.Saved(int64(saved) * int64(viewers))
	}
}

func sizeOf(events []event.Event) (size int) {
	for _, e := range events {
		size += len(e.Data)
	}
	return size
}

func statusOf(err error) int {
	if errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}
