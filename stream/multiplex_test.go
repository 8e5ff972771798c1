package stream_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// partOf returns a part that follows a document's topic, and sends its last event
// first.
func partOf(h *hub.Hub, url, topic string) stream.Part {
	src := &stream.Source{Cursor: h.Subscribe([]string{topic}), Done: new(signal.Signal), Final: new(atomic.Bool), Moved: new(signal.Signal), Revoked: new(signal.Signal)}
	if last := h.Last(topic); last != nil {
		src.Initial = []*store.Entry{last}
	}
	return stream.Part{URL: url, Source: src}
}

// multiplex opens a stream of the parts for a client at a position.
func multiplex(h *hub.Hub, position string, parts ...stream.Part) (c *session, end func() stream.Summary) {
	m := stream.Multiplex(h, parts, position, new(stream.Envelopes))
	c = serve(m.Source(), get("/?last_event_id="+url.QueryEscape(position)), nil, options, newClient())
	synctest.Wait()
	return c, func() stream.Summary {
		c.disconnect()
		<-c.ended
		m.Close()
		return c.summary
	}
}

var retryLines = regexp.MustCompile(`(?m)^retry: \d+\n`)

// sent returns what a stream has sent, without its retry lines.
func sent(c *session) string { return retryLines.ReplaceAllString(c.since(0), "") }

func TestPositionCoversOnlyWhatTheClientHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		publish(t, h, "1", "\x00a")
		publish(t, h, "2", "\x00b")
		a, b := partOf(h, "/a", "\x00a"), partOf(h, "/b", "\x00b")
		refused := stream.Part{URL: "/c", Refused: &stream.Refusal{Status: http.StatusForbidden, Reason: "Forbidden"}}
		c, end := multiplex(h, "", a, b, refused)
		publish(t, h, "3", "\x00b")
		publish(t, h, "4", "\x00elsewhere")
		synctest.Wait()
		end()
		tags := h.Tag("\x00a") + h.Tag("\x00b")
		body := sent(c)
		events := c.events(t)
		id := events[len(events)-1].ID
		if want := h.TaggedPosition(3, tags); !strings.HasPrefix(id, want) || strings.Count(body, "id: ") != 2 {
			t.Errorf("%s", body)
		}
		for topic, want := range map[string]bool{"\x00a": true, "\x00b": true, "\x00c": false} {
			if _, ok := h.Followed(id, 3, []string{topic}); ok != want {
				t.Errorf("%q is followed: %v", topic, ok)
			}
		}
		// A client that knows the refusal isn't told again.
		c, end = multiplex(h, id, partOf(h, "/a", "\x00z"), refused)
		end()
		if body := sent(c); body != "" {
			t.Errorf("again: %q", body)
		}
		if m := stream.Multiplex(h, []stream.Part{refused, {URL: "/d", Finished: "\x00d"}}, id, nil); !m.Finished() {
			t.Error("the client doesn't know that all is over")
		} else {
			m.Close()
		}
	})
}

func TestEventOfTwoPartsIsSentForEachWithOneID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c, end := multiplex(h, "", partOf(h, "/a", "news"), partOf(h, "/b", "news"), partOf(h, "/c", "other"))
		e := publish(t, h, "1", "news")
		synctest.Wait()
		end()
		want := "data: {\"url\":\"/a\",\"data\":1}\n\nid: " + h.TaggedPosition(e.Seq, "") + "\ndata: {\"url\":\"/b\",\"data\":1}\n\n"
		if got := sent(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestRevokedPartSendsNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		a, b := partOf(h, "/a", "\x00a"), partOf(h, "/b", "\x00b")
		c, end := multiplex(h, "", a, b)
		publish(t, h, "1", "\x00a")
		synctest.Wait()
		a.Source.Revoked.Set()
		publish(t, h, "2", "\x00a")
		publish(t, h, "3", "\x00b")
		time.Sleep(5 * time.Second)
		summary := end()
		if body := sent(c); summary.Reason != stream.URLEnded || strings.Contains(body, `"data":2`) || !strings.Contains(body, `{"url":"/b","data":3}`) {
			t.Errorf("%+v: %s", summary, body)
		}
	})
}

func TestPartThatIsDoneGetsNoEventsOfOthersOnItsTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		a, b := partOf(h, "/a", "\x00a"), partOf(h, "/b", "\x00b")
		c, end := multiplex(h, "", a, b)
		if _, _, err := h.Publish([]string{"\x00a"}, event.Event{Name: "complete", Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		a.Source.Final.Store(true)
		a.Source.Done.Set()
		publish(t, h, "2", "\x00a") // by another view
		publish(t, h, "3", "\x00b")
		synctest.Wait()
		if body := sent(c); strings.Contains(body, `"data":2`) || !strings.Contains(body, `"event":"complete"`) || !strings.Contains(body, `"data":3`) {
			t.Errorf("%s", body)
		}
		b.Source.Final.Store(true)
		b.Source.Done.Set()
		synctest.Wait()
		if summary := end(); summary.Reason != stream.SourceEnded {
			t.Errorf("when all parts are done: %+v", summary)
		}
	})
}

func TestMultiplexedStreamIsCompressedAsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, group := newHub(t, store.History{}), new(stream.Group)
		publish(t, h, document(20_000), "\x00a")
		publish(t, h, document(400_000), "\x00b")
		m := stream.Multiplex(h, []stream.Part{partOf(h, "/a", "\x00a"), partOf(h, "/b", "\x00b")}, "", new(stream.Envelopes))
		defer m.Close()
		s := serve(m.Source(), getGzip("/"), group, withGzip(options), newClient())
		synctest.Wait()
		for i := range 20 {
			publish(t, h, document(100*i+1), []string{"\x00a", "\x00b"}[i%2])
		}
		synctest.Wait()
		group.Exit()
		s.wantEnd(t, stream.ShutDown)
		body := s.since(0)
		events := decodeAll(t, gunzip(t, body))
		if len(events) != 22 || s.summary.Events != len(events) || len(body) > 200_000 {
			t.Fatalf("%d events of %d bytes, counted as %+v", len(events), len(body), s.summary)
		}
		if want := h.TaggedPosition(2, h.Tag("\x00a")+h.Tag("\x00b")); events[0].ID != "" || events[1].ID != want {
			t.Errorf("the documents have the ids %q and %q, want none and %q", events[0].ID, events[1].ID, want)
		}
		for i, e := range events[2:] {
			if want := h.TaggedPosition(uint64(i+3), h.Tag("\x00a")+h.Tag("\x00b")); e.ID != want {
				t.Errorf("event %d has the id %q, want %q", i, e.ID, want)
			}
		}
	})
}
