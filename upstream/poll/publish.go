package poll

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// confirm notes that the backend has confirmed the document. If it was said
// to be stale, or another view has had the last word on the topic, then it is
// sent once more.
func (v *view) confirm(came outcome) outcome {
	v.poller.failures.end(&v.outage) // though nobody may have been told
	if v.stale != nil && v.doc != nil || v.isOvertaken() {
		if v.publishAll(v.doc, []event.Event{v.doc.event()}) == failed {
			return failed
		}
	}
	return came
}

// isOvertaken tells whether something newer than the view's document is on its
// topic, of a view that isn't its owner any more.
func (v *view) isOvertaken() bool {
	if v.instance != "" || v.at == nil {
		return false
	}
	owns, release := v.acquireLease()
	defer release()
	last := v.poller.hub.Last(v.topic())
	return owns && last != nil && last.Seq > v.at.Seq
}

// publishChange publishes what has changed.
func (v *view) publishChange(doc *document) outcome {
	if v.doc != nil && v.doc.equal(doc) {
		return v.confirm(unchanged)
	}
	return v.publishAll(doc, v.changes(doc))
}

// changes are the events that bring the viewers to a new document.
func (v *view) changes(doc *document) []event.Event {
	whole := []event.Event{doc.event()}
	if v.doc == nil || v.stale != nil || v.doc.json == nil || doc.json == nil {
		return whole
	}
	events, err := v.poller.config.mode.Events(v.ctx, v.doc.json, doc.json)
	if err != nil {
		v.poller.log.Error("change can't be told, the whole document is sent", v.fields(zap.Error(err))...)
		return whole
	}
	if len(events) == 1 && events[0].Name == "" && v.poller.config.Send != "jq" {
		return whole // with its name
	}
	return events
}

// adopt goes on where another view has left off, perhaps under an earlier
// configuration: a client that has its last document needs no other. It comes
// before any viewer, who would not get the document any more.
func (v *view) adopt(doc *document) bool {
	last := v.poller.hub.Last(v.topic())
	frame, err := doc.event().Encode()
	if err != nil || last == nil || !bytes.Equal(last.Frame.WithoutID(), frame) {
		return false
	}
	v.set(doc, last, nil)
	return true
}

// publishAll publishes what brings the viewers to a document. That may be
// nothing, if the rule's way to tell a change finds none worth telling. What a
// view that doesn't own its topic has to tell is not told: its viewers get what
// the owner's get, or are sent to the next configuration.
func (v *view) publishAll(doc *document, events []event.Event) outcome {
	v.publishing.Lock()
	defer v.publishing.Unlock()
	owns, release := v.acquireLease()
	defer release()
	switch {
	case !owns:
		v.sum, v.since = 0, validators{} // it may be the owner at the next poll
		if v.at == nil || v.lease.holder == nil {
			v.move()
		}
		return unchanged
	case !isClosed(v.polled) && v.adopt(doc):
		return unchanged
	}
	at := v.at
	for _, e := range events {
		published, err := v.publish(e, v.topic())
		if err != nil {
			// The next poll tries again, with the whole document: nobody
			// knows how much the viewers have.
			v.sum, v.since = 0, validators{}
			v.set(nil, nil, v.stale)
			return failed
		}
		at = published
	}
	v.poller.failures.end(&v.outage)
	v.set(doc, at, nil)
	v.recordSaved(doc, events)
	return changed
}

// publishComplete ends the view with its document. It is told on topics of its own, so
// that the last event on the document's is the document: one for those who
// watch this view, since another configuration's may go on, and one by which a
// client that comes back is known to have the very document that is finished.
// If the topic is another view's, the viewers may not have the document, and are
// sent to that view.
func (v *view) publishComplete() outcome {
	v.publishing.Lock()
	defer v.publishing.Unlock()
	owns, release := v.acquireLease()
	defer release()
	if !owns {
		v.move()
		return ended
	}
	last := v.poller.hub.Last(v.finishedTopic())
	if last == nil || last.Seq < v.at.Seq { // or else it has been told already
		var err error
		if last, err = v.publish(event.Event{Name: "complete", Data: []byte("{}")}, v.finishedTopic(), v.endTopic); err != nil {
			return ended
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.complete = last
	return ended
}

// publishStale tells the viewers, once, that what they have may be out of date, and
// nobody else who gets what is published on the topic. Where another
// configuration has taken over, whose backend may be another, the viewers are
// sent there instead.
func (v *view) publishStale(status int, err error) outcome {
	if v.poller.isRetired() {
		v.move()
		return failed
	}
	if v.stale != nil {
		return failed
	}
	if status == 0 {
		status = statusOf(err)
	}
	v.setStatus(status)
	if v.outage == nil { // or it has been told, but could not be published
		v.outage = v.poller.failures.begin(v.target.hostname, status, v.fields(zap.Error(err))...)
	}
	v.publishing.Lock()
	defer v.publishing.Unlock()
	if e, err := v.publish(stream.Stale(time.Now(), status), v.endTopic); err == nil {
		v.set(v.doc, v.at, e)
	}
	return failed
}

func statusOf(err error) int {
	if errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// publishGone takes the backend's word that there is no such document, or not for
// these viewers. Those who wait for the first poll get its answer as it is, and
// so do those who have watched, when they come back.
func (v *view) publishGone(resp *subrequest.Response, first bool) {
	switch {
	case first:
		v.refuse(resp)
	case v.poller.isRetired(): // the next configuration has the say
		v.move()
	case isGone(resp.Status):
		notice, _ := json.Marshal(map[string]int{"status": resp.Status})
		_, _ = v.publish(event.Event{Name: "gone", Data: notice}, v.endTopic) // the stream ends with or without it
	}
}

func isGone(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }

func (v *view) refuse(resp *subrequest.Response) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refusal = resp
}

func (v *view) publish(e event.Event, topics ...string) (*store.Entry, error) {
	entry, _, err := v.poller.hub.Publish(topics, e)
	if err != nil {
		if left, due := v.poller.notPublished.Allow(time.Now()); due {
			v.poller.log.Error("event not published", v.fields(zap.String("event", e.Name), zap.Error(err), zap.Int("not_logged_since", left))...)
		}
	}
	return entry, err
}

func (v *view) set(doc *document, at, stale *store.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doc, v.at, v.stale = doc, at, stale
}

// topic can't be named from outside: no topic of a webhook or a subscription
// holds a control character.
//
// Views of one key share it, one after the other, if their events make sense to
// whoever has missed some. A patch needs the very document that it was made
// for, so those that send patches have a topic each.
func (v *view) topic() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return "\x00poll/" + v.currentKey + v.instance
}

// finishedTopic is the topic of the events that have ended views of the key with the
// very document that the view has now.
func (v *view) finishedTopic() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return "\x00finished/" + v.currentKey + "/" + v.poller.hub.Digest(string(v.doc.text))
}
