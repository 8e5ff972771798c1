package hub_test

import (
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

func TestTagsOfPositionSayWhichTopicsWereFollowed(t *testing.T) {
	h := newHub(t, store.History{})
	a := publish(t, h, "1", "\x00a")
	b := publish(t, h, "2", "\x00b")
	id := h.TaggedPosition(b.Seq, h.Tag("\x00a")+h.Tag("\x00c"))
	if err := event.CheckID(id); err != nil {
		t.Error(err)
	}
	seq, ok := h.Resolve(id, nil)
	if !ok || seq != b.Seq {
		t.Fatalf("%q resolves to %d, %v", id, seq, ok)
	}
	for topic, want := range map[string]bool{"\x00a": true, "\x00b": false, "\x00c": true, "\x00d": false} {
		if got, ok := h.Followed(id, seq, []string{"\x00x", topic}); ok != want || ok && got != topic {
			t.Errorf("%q: %q, %v, want %v", topic, got, ok, want)
		}
	}
	// An id without tags is that of one event.
	if _, ok := h.Followed(a.ID, a.Seq, []string{"\x00b"}); ok {
		t.Error("the event is on another topic")
	}
	if topic, ok := h.Followed(a.ID, a.Seq, []string{"\x00b", "\x00a"}); !ok || topic != "\x00a" {
		t.Errorf("%q, %v", topic, ok)
	}
}

func TestTagsOfOthersProveNothing(t *testing.T) {
	h, other := newHub(t, store.History{}), newHub(t, store.History{})
	e := publish(t, h, "1", "\x00a")
	if _, ok := h.Followed(h.TaggedPosition(e.Seq, other.Tag("\x00b")), e.Seq, []string{"\x00b"}); ok {
		t.Error("another log's tag counts")
	}
	if _, ok := h.Resolve(other.TaggedPosition(1, h.Tag("\x00a")), []string{"\x00a"}); ok {
		t.Error("another log's position is resolved")
	}
	for _, id := range []string{"", "~", "~abcd", h.Position(1), h.Position(1) + "~", h.Position(1) + "~" + h.Tag("\x00a")[1:]} {
		if hub.HasTag(id, h.Tag("\x00a")) {
			t.Errorf("%q has a tag", id)
		}
	}
	// A publisher's id with the separator is an id as any other.
	given, _, err := h.Publish([]string{"news"}, event.Event{ID: "x~" + h.Tag("\x00b"), Data: []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Followed(given.ID, given.Seq, []string{"\x00b"}); ok {
		t.Error("a publisher's id has tags")
	}
}
