package stream_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func refusedWith(status int) stream.Part {
	return stream.Part{URL: "/refused", Refused: &stream.Refusal{Status: status, Reason: http.StatusText(status)}}
}

// lastID returns the client's position.
func lastID(c *session) string {
	body := c.since(0)
	_, rest, _ := strings.Cut(body[max(strings.LastIndex(body, "id: "), 0):], "id: ")
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

func TestRefusalThatMayPassIsTriedAgain(t *testing.T) {
	for status, temporary := range map[int]bool{408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 403: false, 404: false, 421: false, 501: false, 508: false} {
		for _, withLive := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, store.History{})
				parts := func() []stream.Part {
					if withLive {
						return []stream.Part{refusedWith(status), partOf(h, "/a", "\x00a")}
					}
					return []stream.Part{refusedWith(status)}
				}
				c, end := multiplex(h, "", parts()...)
				time.Sleep(time.Second)
				if !temporary && !withLive {
					if end(); c.summary.Reason != stream.SourceEnded {
						t.Errorf("%d alone: %+v", status, c.summary)
					}
				} else {
					select {
					case <-c.ended:
						t.Errorf("%d: the stream has ended at once: %+v", status, c.summary)
					default:
					}
					time.Sleep(time.Minute)
					want := stream.ClientLeft
					if temporary {
						want = stream.URLEnded
					}
					if end(); c.summary.Reason != want {
						t.Errorf("%d, with a live URL: %v: %+v", status, withLive, c.summary)
					}
				}
				m := stream.Multiplex(h, parts(), lastID(c), new(stream.Envelopes))
				defer m.Close()
				source := m.Source()
				defer source.Cursor.Close()
				if finished := !temporary && !withLive; m.Finished() != finished || len(source.Initial) != 0 {
					t.Errorf("%d, with a live URL: %v: finished: %v, told again: %d", status, withLive, m.Finished(), len(source.Initial))
				}
			})
		}
	}
}

func topicPart(h *hub.Hub, position string) stream.Part {
	src := stream.Subscribe(h, []string{"t"}, position)
	return stream.Part{URL: "/t", Source: &src}
}

func TestTopicURLResumesOnlyWhereItsClientHasFollowedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c, end := multiplex(h, "", topicPart(h, ""), partOf(h, "/b", "\x00b"))
		publish(t, h, "1", "t")
		publish(t, h, "2", "\x00b")
		synctest.Wait()
		end()
		publish(t, h, "3", "t")
		// A stream with the URL resumes; one without it moves the position past 4.
		c, end = multiplex(h, lastID(c), topicPart(h, lastID(c)), partOf(h, "/b", "\x00c"))
		synctest.Wait()
		end()
		if body := sent(c); strings.Contains(body, "reset") || !strings.Contains(body, `{"url":"/t","data":3}`) {
			t.Errorf("the URL doesn't resume: %q", body)
		}
		refused := stream.Part{URL: "/t", Refused: &stream.Refusal{Status: http.StatusForbidden}}
		c, end = multiplex(h, lastID(c), refused, partOf(h, "/b", "\x00b"))
		publish(t, h, "4", "t")
		publish(t, h, "5", "\x00b")
		synctest.Wait()
		end()
		c, end = multiplex(h, lastID(c), topicPart(h, lastID(c)), partOf(h, "/b", "\x00c"))
		publish(t, h, "6", "t")
		synctest.Wait()
		end()
		if body := sent(c); !strings.Contains(body, `{"url":"/t","event":"reset"`) || !strings.Contains(body, `{"url":"/t","data":6}`) {
			t.Errorf("the client has missed 4, and gets %q", body)
		}
	})
}

func TestShapedURLsWithoutEventsHavePosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		a := partOf(h, "/a", "\x00a")
		a.Source.Followed = "\x00a"
		a.Source.Initial = []*store.Entry{{Frame: event.Position(a.Source.Cursor.Position())}}
		c, end := multiplex(h, "", a)
		end()
		if want := "id: " + h.TaggedPosition(h.Head(), h.Tag("\x00a")) + "\n\n"; sent(c) != want {
			t.Errorf("got %q, want %q", sent(c), want)
		}
	})
}

func TestStreamThatMovesHasPositionOfItsURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		a := topicPart(h, "")
		a.Source.Moved = partOf(h, "/a", "\x00a").Source.Moved
		c, end := multiplex(h, "", a)
		publish(t, h, "1", "elsewhere")
		a.Source.Moved.Set()
		time.Sleep(5 * time.Second)
		end()
		publish(t, h, "2", "t")
		c, end = multiplex(h, lastID(c), topicPart(h, lastID(c)))
		end()
		if body := sent(c); strings.Contains(body, "reset") || !strings.Contains(body, `"data":2`) {
			t.Errorf("got %q", body)
		}
	})
}

func TestPositionCoversNoURLOfWhichEventsAreLeftOut(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			publish(t, h, "1", "\x00a")
			publish(t, h, "2", "\x00b")
			a := partOf(h, "/a", "\x00a")
			c, end := multiplex(h, "", a, partOf(h, "/b", "\x00b"))
			if revoked {
				a.Source.Revoked.Set()
			} else {
				a.Source.Done.Set()
			}
			publish(t, h, "3", "\x00b")
			synctest.Wait()
			if id := lastID(c); !hub.HasTag(id, h.Tag("\x00a")) {
				t.Errorf("revoked: %v: %q leaves out a URL that the client has", revoked, id)
			}
			publish(t, h, "4", "\x00a")
			publish(t, h, "5", "\x00b")
			synctest.Wait()
			if id := lastID(c); hub.HasTag(id, h.Tag("\x00a")) || !hub.HasTag(id, h.Tag("\x00b")) {
				t.Errorf("revoked: %v: %q covers an event that the client has not", revoked, id)
			}
			end()
		})
	}
}

func TestEventsThatAreNotSentReplaceNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		a := partOf(h, "/a", "\x00a")
		c, end := multiplex(h, "", a, partOf(h, "/b", "\x00b"))
		publish(t, h, "1", "\x00b")
		a.Source.Final.Store(true)
		a.Source.Done.Set()
		for range 60 {
			time.Sleep(time.Second)
			publish(t, h, "2", "\x00a") // by another view
		}
		if summary := end(); summary.Events != 1 || strings.Count(c.since(0), "retry: ") < 4 {
			t.Errorf("%+v: %q", summary, c.since(0))
		}
	})
}

func TestFirstEventsAreWrittenInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		src := stream.Subscribe(h, []string{"a"}, "")
		for range 20 {
			src.Initial = append(src.Initial, &store.Entry{Frame: event.Frame("data: " + document(100_000) + "\n\n")})
		}
		s := serve(src, get("/"), nil, options, newClient())
		synctest.Wait()
		for _, w := range s.all() {
			if len(w.data) > 400_000 {
				t.Errorf("one write has %d bytes", len(w.data))
			}
		}
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
	})
}

func TestEnvelopeIsOfTheDocumentOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, envelopes := newHub(t, store.History{}), new(stream.Envelopes)
		at := publish(t, h, "patch", "\x00a")
		for _, text := range []string{"1", "2"} { // which no event has brought
			a := partOf(h, "/a", "\x00a")
			a.Source.Initial = nil
			for _, more := range []string{"first", text} { // at one position
				a.Source.Initial = append(a.Source.Initial, &store.Entry{Seq: at.Seq, Topics: at.Topics, Frame: event.Frame("data: \"" + more + "\"\n\n")})
			}
			m := stream.Multiplex(h, []stream.Part{a}, "", envelopes)
			source := m.Source()
			var got strings.Builder
			for _, e := range source.Initial {
				got.Write(e.Frame.WithoutID())
			}
			source.Cursor.Close()
			m.Close()
			if !strings.Contains(got.String(), `"data":"first"`) || !strings.Contains(got.String(), `"data":"`+text+`"`) {
				t.Errorf("document %s: %s", text, got.String())
			}
		}
	})
}
