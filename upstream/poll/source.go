package poll

import (
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
)

// Finished reports whether the client already knows that the document is
// finished. It should not reconnect: the caller responds with 204, and so it does
// without a poll if the client asks again.
func (v *Subscription) Finished(lastEventID string) bool {
	if !v.hasFinished(lastEventID) {
		return false
	}
	v.poller.finished.add(v.finished, v.view.target, v.FinishedTopic())
	return true
}

// FinishedTopic returns the topic whose tag proves that a client has the finished
// document; see [hub.Hub.Followed].
func (v *Subscription) FinishedTopic() string {
	_, topic := v.view.state.completion()
	return topic
}

func (v *Subscription) hasFinished(lastEventID string) bool {
	complete, topic := v.view.state.completion()
	if complete == nil {
		return false
	}
	if complete.ID == lastEventID {
		return true
	}
	h, topics := v.poller.hub, []string{topic}
	seq, ok := h.Resolve(lastEventID, topics)
	if !ok {
		return false
	}
	_, ok = h.Followed(lastEventID, seq, topics)
	return ok
}

// hasEndedBefore reports whether an earlier view of the key has published the
// document's end. The topics of this view hold nothing of it.
func (v *view) hasEndedBefore() bool {
	complete, _ := v.state.completion()
	return complete != nil && !complete.On(v.publisher.endTopic)
}

func (v *Subscription) source(c *hub.Cursor) stream.Source {
	src := stream.Source{Cursor: c, Done: &v.view.done, Final: &v.view.final, Moved: &v.view.moved}
	if v.view.isChecked() { // which changes no more after the first poll
		src.Revoked = &v.viewer.revoked
	}
	return src
}

// Source returns the source of the viewer's stream, for a client at a position;
// empty if it has none.
//
// A position grants nothing: unless it is one of this view, the viewer gets the
// document.
func (v *Subscription) Source(lastEventID string) stream.Source {
	if v.poller.config.isShaped() {
		return v.shapedSource(lastEventID)
	}
	h, topics := v.poller.hub, []string{v.view.publisher.topic(), v.view.publisher.endTopic}
	seq, known := h.Resolve(lastEventID, topics)
	if known {
		if topic, ok := h.Followed(lastEventID, seq, topics); ok && !v.view.hasEndedBefore() && v.resumes(seq) {
			src := v.source(h.SubscribeAfter(topics, seq))
			src.Start, src.Followed = stream.Resumed, topic
			return src
		}
	}
	v.view.publisher.mu.Lock()
	src := v.source(h.Subscribe(topics))
	snapshot := v.view.publisher.snapshot()
	v.view.publisher.mu.Unlock()
	src.NoPosition = len(snapshot) == 0
	for i, e := range snapshot {
		if e.ID == lastEventID { // this is all that came after it
			src.Initial, known = snapshot[i+1:], true
			snapshot, src.Start, src.Followed = nil, stream.Resumed, stream.FollowedTopic(e)
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
