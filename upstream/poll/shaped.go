package poll

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// The values of [Config].First.
const (
	firstDocument = "document"
	firstProgram  = "program"
	firstNothing  = "nothing"
)

// isShaped reports whether views are shaped: their viewers receive the events that
// the program of `send jq` makes of documents, and never a document.
func (c *Config) isShaped() bool { return c.Send == "jq" && c.First != firstDocument }

// shape runs the program on a document that follows before, which is nil if it is
// the view's first one.
func (c *Config) shape(ctx context.Context, before, doc *document) error {
	if !c.isShaped() || before != nil && before.equal(doc) {
		return nil
	}
	if before != nil {
		events, err := c.mode.Events(ctx, before.json, doc.json)
		if err != nil {
			return programError(err)
		}
		doc.next = c.frames(doc, events)
	}
	if c.First == firstNothing {
		return nil
	}
	events, err := c.mode.First(ctx, doc.json)
	if err != nil {
		return programError(fmt.Errorf("%w (for new viewers .old is null: see the option first)", err))
	}
	doc.first = c.frames(doc, events)
	if before == nil {
		doc.next = doc.first
	}
	return nil
}

// frames encodes the events that a program has made of a document.
func (c *Config) frames(doc *document, events []event.Event) (frames []event.Frame) {
	for _, e := range doc.takeComplete(c.named(events)) {
		frame, err := e.Encode()
		if err != nil { // the program's output was JSON, and the name was checked
			panic(err)
		}
		frames = append(frames, frame)
	}
	return frames
}

// named names those events to which a program has given no name.
func (c *Config) named(events []event.Event) []event.Event {
	for i, e := range events {
		if e.Name == "" {
			events[i].Name = c.eventName.expand(e.Data)
		}
	}
	return events
}

// takeComplete returns the events before the first that a program has called
// complete. That finishes the document as until does: there is one such event, and
// until may have its data.
func (d *document) takeComplete(events []event.Event) []event.Event {
	i := slices.IndexFunc(events, func(e event.Event) bool { return e.Name == "complete" })
	if i < 0 {
		return events
	}
	if !d.finished {
		d.finished, d.byProgram = true, true
	}
	if d.programEnd == nil { // or the change has ended it, and these are for new viewers
		d.programEnd = events[i].Data
	}
	return events[:i]
}

// recallEnd finishes a view's first document if the program has finished that very
// document for an earlier view, as far as the log goes back: the program may tell the
// end only by the document before.
func (p *publisher) recallEnd(doc *document) {
	if p.view.poller.config.Send != "jq" || doc.finished || p.view.state.doc != nil {
		return
	}
	last := p.view.poller.hub.Last(p.finishedTopic(doc, &document{byProgram: true}))
	if last == nil {
		return
	}
	doc.finished, doc.byProgram = true, true
	doc.programEnd, _ = last.Frame.DataOf("complete")
}

// publishShaped publishes the events of a shaped view's new document.
func (p *publisher) publishShaped(doc *document) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resigned || doc.finished && p.adoptFinished(doc) {
		return unchanged
	}
	s := &p.view.state
	var messages []hub.Message
	if s.stale != nil {
		messages = append(messages, hub.Message{Topics: []string{p.endTopic}, Event: stream.Fresh()})
	}
	sent := 0
	for _, frame := range doc.next {
		messages = append(messages, hub.Message{Topics: []string{p.topic()}, Frame: frame})
		sent += len(frame)
	}
	base := s.base
	if s.doc == nil {
		base = p.view.poller.hub.Head()
	}
	entries, err := p.view.poller.hub.PublishTogether(messages)
	if err != nil {
		p.logFailure("", err)
		p.unsent = true // the next poll tries again
		return failed
	}
	at, newest := s.at, s.newest
	if len(entries) > 0 {
		newest = entries[len(entries)-1]
	}
	entries = entries[len(messages)-len(doc.next):]
	if n := len(entries); n > 0 {
		at, base = entries[n-1], entries[n-1].Seq
	}
	first := entries
	if s.doc != nil {
		first = p.firstEntries(doc.first, base)
	}
	doc.next, doc.first = nil, nil
	p.view.poller.failures.end(&p.outage)
	s.setShaped(doc, at, newest, base, first)
	p.recordSaved(doc, sent)
	return changed
}

// adoptFinished goes on with the topics of an earlier view that has ended with this
// very document, if the log holds its end: clients that have missed some of its events
// get those. It is called before the view has viewers, or does nothing. On a hub that
// several processes share it does nothing: a view of another process may go on with
// the same topics.
func (p *publisher) adoptFinished(doc *document) bool {
	if p.process != "" {
		return false
	}
	last := p.view.poller.hub.Last(p.finishedTopic(doc, doc))
	if last == nil || isClosed(p.view.polled) || p.view.state.doc != nil {
		return false
	}
	i := slices.IndexFunc(last.Topics, func(t string) bool { return strings.HasPrefix(t, endPrefix) })
	if i < 0 {
		return false
	}
	base := last.Seq - 1
	p.takeTopics("/"+strings.TrimPrefix(last.Topics[i], endPrefix), last.Topics[i], base)
	at := p.view.poller.hub.Last(p.topic())
	if at != nil {
		base = at.Seq
	}
	p.view.poller.failures.end(&p.outage)
	p.view.state.setShaped(doc, at, at, base, p.firstEntries(doc.first, base))
	return true
}

// confirmShaped handles a response that confirms the document.
func (p *publisher) confirmShaped(result outcome) outcome {
	s := &p.view.state
	if s.stale == nil || s.doc == nil {
		return result
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resigned {
		return result
	}
	fresh, err := p.publish(stream.Fresh(), p.endTopic)
	if err != nil {
		return failed
	}
	s.setShaped(s.doc, s.at, fresh, s.base, s.first)
	return result
}

// firstEntries returns the events for viewers without the document. A client that
// has all of them resumes after the base; one that has some of them gets the rest, as
// long as the log has nothing after the base and the events still begin with those
// that it has: a change of the document may make no event. They are not in the log, and
// so have no position there.
func (p *publisher) firstEntries(frames []event.Frame, base uint64) (entries []*store.Entry) {
	h, topics := p.view.poller.hub, []string{p.topic()}
	had := sha256.New()
	for i, frame := range frames {
		id := p.position(base)
		if i < len(frames)-1 {
			had.Write(frame) // which ends with an empty line
			id = h.Position(base) + "." + strconv.Itoa(i+1) + "." + h.Tag(topics[0]+string(had.Sum(nil)))
		}
		entries = append(entries, &store.Entry{Topics: topics, ID: id, Frame: frame.WithID(id)})
	}
	return entries
}

// position returns the id for a client that has got all of a shaped view up to a
// position of the log.
func (p *publisher) position(seq uint64) string {
	return p.view.poller.hub.TaggedPosition(seq, p.view.poller.hub.Tag(p.topic()))
}

// shapedSource is [Subscription.Source] for a shaped view. A client whose position
// is none of this view's gets a reset before the events for new viewers: it may
// have had some of them.
func (v *Subscription) shapedSource(lastEventID string) stream.Source {
	p := &v.view.publisher
	h, topics := v.poller.hub, []string{p.topic(), p.endTopic}
	if seq, ok := h.Resolve(lastEventID, topics); ok {
		if topic, ok := h.Followed(lastEventID, seq, topics); ok && !v.view.hasEndedBefore() && v.resumes(seq) {
			src := v.source(h.SubscribeAfter(topics, seq))
			src.Start, src.Followed = stream.Resumed, topic
			return src
		}
	}
	p.mu.Lock()
	src := v.source(h.Subscribe(topics))
	first, base, hasDocument := v.view.state.firstEvents()
	newest := v.view.state.newestEvent()
	p.mu.Unlock()
	if len(first) == 0 && hasDocument {
		// Without a position, the client would miss what changes while it reconnects.
		id := p.position(base)
		first = []*store.Entry{{Topics: topics[:1], ID: id, Frame: event.Position(id)}}
	}
	src.NoPosition = len(first) == 0
	had := slices.IndexFunc(first, func(e *store.Entry) bool { return e.ID == lastEventID })
	switch {
	case lastEventID == "", !hasDocument && v.view.moved.IsSet(): // the next configuration knows the position
	case newest != nil && newest.ID == lastEventID: // which may have left the log
		src.Start, src.Followed = stream.Resumed, stream.FollowedTopic(newest)
		first = slices.DeleteFunc(first, func(e *store.Entry) bool { return e.Seq <= newest.Seq })
	case had >= 0:
		src.Start, src.Followed = stream.Resumed, stream.FollowedTopic(first[had])
		first = first[had+1:]
	default:
		src.Start = stream.Lost
		src.Initial = []*store.Entry{stream.ResetWithoutPosition()}
	}
	src.Initial = append(src.Initial, first...)
	return src
}

// firstEvents returns the events for a viewer without the document, the position
// after which changes follow, and whether there is a document.
func (s *documentState) firstEvents() (first []*store.Entry, base uint64, hasDocument bool) {
	first = s.snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	return first, s.base, s.doc != nil
}

func (s *documentState) newestEvent() *store.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// setShaped sets a shaped view's document.
func (s *documentState) setShaped(doc *document, at, newest *store.Entry, base uint64, first []*store.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc, s.at, s.newest, s.base, s.first, s.stale = doc, at, newest, base, first, nil
}
