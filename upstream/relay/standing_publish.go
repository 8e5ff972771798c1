package relay

import (
	"bytes"
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
)

// publish publishes events of the feed. Those that are in the history already, because
// the feed repeats them after a reconnect, are left out.
func (f *standing) publish(ctx context.Context, events []event.Event) error {
	var b standingBatch
	for _, e := range events {
		f.add(ctx, &b, e)
	}
	if len(events) > 0 {
		f.failures = 0
	}
	if b.repeated > 0 {
		f.rule().Observer.Repeated(b.repeated)
	}
	if len(b.messages) == 0 {
		return nil
	}
	err := publishAll(ctx, f.hub, b.messages, func(err error) {
		f.logUnusable("events of a standing feed can't be stored, which waits", err)
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.events += len(b.messages)
	f.mu.Unlock()
	f.rule().Observer.Published(len(b.messages))
	return nil
}

// standingBatch is what one read publishes.
type standingBatch struct {
	messages []hub.Message
	ids      map[string]bool
	repeated int
}

// add adds an event, as it is shaped, to a batch.
func (f *standing) add(ctx context.Context, b *standingBatch, e event.Event) {
	if e.ID != "" {
		f.lastEventID = e.ID
	}
	topics := []string{f.topic}
	if t := f.config.topic; t != nil {
		topic, err := expand(t, e)
		if err == nil {
			err = hub.CheckTopic(topic)
		}
		if err != nil {
			f.logUnusable("an event of a standing feed is left out: it has no valid topic", err)
			return
		}
		topics = append(topics, topic)
	}
	shaped, err := f.config.shape.apply(ctx, e)
	if err != nil {
		f.logUnusable("an event of a standing feed is left out", err)
	}
	for i, s := range shaped {
		frame, err := event.EncodeRelayed(s.Name, s.Data)
		if err != nil {
			f.logUnusable("an event of a standing feed is left out", err)
			continue
		}
		f.addMessage(b, hub.Message{Topics: topics, Frame: frame}, e.ID, i)
	}
}

// addMessage adds a message to a batch, unless the history has it since before the
// connection began. own is the feed's id of the event, if it has one.
func (f *standing) addMessage(b *standingBatch, m hub.Message, own string, output int) {
	switch id := f.ids.of(own, output); {
	case own != "" && f.isRepeated(id, m.Frame):
		b.repeated++
		return
	case own != "" && !b.ids[id] && !f.isTaken(id):
		m.Event.ID = id
		if b.ids == nil {
			b.ids = make(map[string]bool)
		}
		b.ids[id] = true
	case f.lastEventID != "":
		m.Event.ID = f.ids.another(f.lastEventID)
	}
	b.messages = append(b.messages, m)
}

// isRepeated reports whether the feed has sent an event before this connection. Within
// one, equal events are different ones: some feeds use ids for something else.
func (f *standing) isRepeated(id string, frame event.Frame) bool {
	seq, ok := f.hub.Resolve(id, []string{f.topic})
	if !ok || seq > f.before {
		return false
	}
	before := f.hub.Entry(seq)
	return before != nil && bytes.Equal(before.Frame, frame.WithID(id))
}

func (f *standing) isTaken(id string) bool {
	_, ok := f.hub.Resolve(id, []string{f.topic})
	return ok
}

// logUnusable logs once a minute.
func (f *standing) logUnusable(message string, err error) {
	if suppressed, ok := f.unusable.Allow(time.Now()); ok {
		f.log().Warn(message, f.field(), zap.Error(err), zap.Int("not_logged_since", suppressed))
	}
}
