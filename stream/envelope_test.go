package stream_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestEnvelopeNamesSubscribedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, envelopes := newHub(t, store.History{}), new(stream.Envelopes)
		topics := []string{"a", "b"}
		src := stream.Subscribe(h, topics, "lost")
		src.Wrap = envelopes.ForTopics(topics)
		s := serve(src, get("/"), nil, options, newClient())
		synctest.Wait()
		e, _, err := h.Publish([]string{"b"}, event.Event{ID: "given", Name: "paid", Data: []byte(`{"n":1}`)})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, h, "text", "other", "b", "a")
		synctest.Wait()
		got := s.events(t)
		if len(got) != 3 || got[0].Name != "reset" || got[1].ID != e.ID || got[1].Name != "paid" {
			t.Fatalf("got %+v", got)
		}
		want := []string{`{"topic":"b","data":{"n":1}}`, `{"topic":"a","data":"text"}`} // the first of its topics that the stream has
		if data := s.data(t)[1:]; !slices.Equal(data, want) {
			t.Errorf("got %q, want %q", data, want)
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestStreamsShareEnvelope(t *testing.T) {
	envelopes := new(stream.Envelopes)
	e := &store.Entry{Seq: 7, Topics: []string{"a", "b"}, Frame: event.Frame("id: 7\ndata: x\n\n")}
	first := envelopes.ForTopics([]string{"a"})(e)
	var streams sync.WaitGroup
	for range 100 {
		streams.Go(func() {
			if got := envelopes.ForTopics([]string{"z", "a"})(e); got != first {
				t.Error("the frame was encoded again")
			}
			if got := string(envelopes.ForTopics([]string{"b"})(e).Frame); got != "id: 7\ndata: {\"topic\":\"b\",\"data\":\"x\"}\n\n" {
				t.Errorf("got %q", got)
			}
		})
	}
	streams.Wait()
	on := envelopes.ForTopics([]string{"a"})
	if n := testing.AllocsPerRun(100, func() { on(e) }); n != 0 {
		t.Errorf("%v allocations per cached frame", n)
	}
}

func TestEnvelopeCacheIsBounded(t *testing.T) {
	for _, c := range []struct{ events, size, atMost int }{{5000, 1, 1000}, {40, 1 << 20, 16}} {
		envelopes := new(stream.Envelopes)
		on := envelopes.ForTopics([]string{"a"})
		var entries []*store.Entry
		for i := range c.events {
			e := &store.Entry{Seq: uint64(i), Topics: []string{"a"}, Frame: event.Frame(fmt.Sprintf("data: %s\n\n", large(c.size)))}
			entries = append(entries, e)
			on(e)
		}
		if n := envelopes.Len(); n == 0 || n > c.atMost {
			t.Errorf("%d frames of %d bytes are cached", n, c.size)
		}
		newest := entries[len(entries)-1]
		if a, b := on(newest), on(newest); a != b {
			t.Error("the newest frame is not cached")
		}
	}
}

// TestOldEnvelopeIsNotCompressedAgain: a client can resume before it again and again.
func TestOldEnvelopeIsNotCompressedAgain(t *testing.T) {
	on := new(stream.Envelopes).ForTopics([]string{"a"})
	var entries []*store.Entry
	for i := range 1001 {
		e := &store.Entry{Seq: uint64(1 + i), Topics: []string{"a"}, Frame: event.Frame("data: " + document(500) + "\n\n")}
		entries = append(entries, e)
		if on(e).Gzipped() == nil {
			t.Fatalf("event %d isn't compressed", i)
		}
	}
	if on(entries[0]).Gzipped() != nil {
		t.Error("an event that has left the cache is compressed again")
	}
	if on(entries[1000]).Gzipped() == nil {
		t.Error("the newest event isn't compressed")
	}
	fromDisk := &store.Entry{Seq: 2000, Topics: []string{"a"}, Frame: entries[0].Frame}
	fromDisk.LeaveUncompressed()
	if on(fromDisk).Gzipped() != nil {
		t.Error("the envelope of an event from a disk is compressed")
	}
}
