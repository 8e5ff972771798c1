package stream_test

import (
	"reflect"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// beginning is all that a client learns from how its stream begins.
type beginning struct {
	Start   stream.Start
	Initial []*store.Entry
	Unread  bool
}

func begin(h *hub.Hub, lastEventID string, topics ...string) beginning {
	src := stream.Subscribe(h, topics, lastEventID)
	defer src.Cursor.Close()
	return beginning{src.Start, src.Initial, !src.Cursor.CaughtUp()}
}

func TestIDOfAnotherTopicIsAnsweredLikeUnknownOne(t *testing.T) {
	h := newHub(t, store.History{})
	for id, topics := range map[string][]string{"order-1001-paid": {"orders"}, "both-1": {"orders", "news"}} {
		if _, _, err := h.Publish(topics, event.Event{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	unknown := begin(h, "order-9999-paid", "news")
	if unknown.Start != stream.Lost || len(unknown.Initial) != 1 {
		t.Fatalf("an unknown id is answered with %+v", unknown)
	}
	if got := begin(h, "order-1001-paid", "news"); !reflect.DeepEqual(got, unknown) {
		t.Errorf("another topic's id is answered with %+v, an unknown one with %+v", got, unknown)
	}
	for id, topics := range map[string][]string{"order-1001-paid": {"news", "orders"}, "both-1": {"news"}} {
		if got := begin(h, id, topics...); got.Start != stream.Resumed {
			t.Errorf("%s on %q is answered with %+v", id, topics, got)
		}
	}
}

// A position is valid for every topic of its log, whichever event is there: it
// tells how long the log is, and nothing else.
func TestPositionOfAnyTopicIsAnsweredAlike(t *testing.T) {
	h := newHub(t, store.History{})
	publish(t, h, "1", "news")
	if _, _, err := h.Publish([]string{"orders"}, event.Event{ID: "order-1001-paid"}); err != nil {
		t.Fatal(err)
	}
	publish(t, h, "3", "orders")
	want := begin(h, h.Position(1), "news")
	for seq := range uint64(4) {
		if got := begin(h, h.Position(seq), "news"); !reflect.DeepEqual(got, want) {
			t.Errorf("position %d is answered with %+v, position 1 with %+v", seq, got, want)
		}
	}
}

func TestNewSubscriberBeginsWithTheNewestEvents(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 5})
	for i, topic := range []string{"a", "b", "a", "c", "b", "a", "c"} { // two have left the history
		publish(t, h, string(rune('1'+i)), topic)
	}
	for n, want := range map[int]string{-1: "356", 0: "", 1: "6", 2: "56", 3: "356", 9: "356"} {
		for position, first := range map[string]string{"": "", h.Position(1): "reset", "unknown": "reset", h.Position(5): "", h.Position(7): ""} {
			src := stream.SubscribeReplaying(h, []string{"a", "b"}, position, n)
			wanted := want
			switch position {
			case h.Position(5):
				wanted = "6"
			case h.Position(7):
				wanted = ""
			}
			entries, err := src.Cursor.Next(1<<20, nil)
			got := ""
			for _, e := range entries {
				data, _ := e.Frame.DataOf("")
				got += string(data)
			}
			if err != nil || got != wanted || (len(src.Initial) == 1) != (first == "reset") {
				t.Errorf("the last %d after %q: got %q after %d others (%v), want %q", n, position, got, len(src.Initial), err, wanted)
			}
			src.Cursor.Close()
		}
	}
}
