package poll

import (
	"slices"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// snapshot is what a viewer who has nothing must get.
func (v *view) snapshot() []*store.Entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	var entries []*store.Entry
	for _, e := range []*store.Entry{v.wholeLocked(), v.stale, v.complete} {
		if e != nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// wholeLocked is the document as an event in the place of the one that brought
// it, which may have been a patch.
func (v *view) wholeLocked() *store.Entry {
	if v.doc == nil || v.instance == "" {
		return v.at
	}
	frame, err := v.doc.event().Encode()
	if err != nil { // it has been encoded before, or a part of it that is no less
		return v.at
	}
	return &store.Entry{Seq: v.at.Seq, ID: v.at.ID, Frame: frame.WithID(v.at.ID)}
}

// Finished tells whether the client has been told before that the document is
// finished: it should not come back.
func (v *Subscription) Finished(lastEventID string) bool {
	v.view.mu.Lock()
	complete := v.view.complete
	v.view.mu.Unlock()
	if complete == nil {
		return false
	}
	if complete.ID == lastEventID {
		return true
	}
	seq, ok := v.poller.hub.Resolve(lastEventID)
	e := v.poller.hub.Entry(seq)
	return ok && e != nil && e.On(v.view.finishedTopic())
}

// hasEndedBefore tells whether it was an earlier view of the key that has told
// of the document's end: on the topics of this one there is nothing of it.
func (v *view) hasEndedBefore() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.complete != nil && !v.complete.On(v.endTopic)
}

func (v *Subscription) source(c *hub.Cursor) stream.Source {
	return stream.Source{Cursor: c, Done: v.view.done, Moved: v.view.moved, Revoked: v.viewer.revoked}
}

// Source is what the viewer's stream sends, given the position that the client
// has; empty if it has none.
//
// A position says nothing about whose it was: unless it is one of this view,
// the viewer gets the document.
func (v *Subscription) Source(lastEventID string) stream.Source {
	h, topics := v.poller.hub, []string{v.view.topic(), v.view.endTopic}
	seq, known := h.Resolve(lastEventID)
	if known {
		if e := h.Entry(seq); e != nil && slices.ContainsFunc(topics, e.On) && !v.view.hasEndedBefore() && v.resumes(seq) {
			src := v.source(h.SubscribeAfter(topics, seq))
			src.Start = stream.Resumed
			return src
		}
	}
	v.view.publishing.Lock()
	src := v.source(h.Subscribe(topics))
	snapshot := v.view.snapshot()
	v.view.publishing.Unlock()
	src.NoPosition = len(snapshot) == 0
	for i, e := range snapshot {
		if e.ID == lastEventID { // this is all that came after it
			src.Initial, known = snapshot[i+1:], true
			snapshot, src.Start = nil, stream.Resumed
			src.Cursor.Skip(e.Seq)
			break
		}
	}
	if lastEventID != "" && !known {
		src.Start = stream.Lost
		src.Initial = append(src.Initial, stream.ResetWithoutPosition())
	}
	src.Initial = append(src.Initial, snapshot...)
	if n := len(src.Initial); n > 0 {
		src.Cursor.Skip(src.Initial[n-1].Seq)
	}
	return src
}
