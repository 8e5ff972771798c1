package stream_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// counted is a hub whose topics are documents that change by one at a time.
type counted struct {
	t      *testing.T
	hub    *hub.Hub
	counts map[string]int // by URL
	views  map[string]int // the numbers of the URLs' views
}

func (c *counted) topic(url string) string { return fmt.Sprintf("\x00poll%s/%d", url, c.views[url]) }

// change publishes the next change of a URL's document, which only a client with the
// document before can use.
func (c *counted) change(url string) {
	c.counts[url]++
	publish(c.t, c.hub, fmt.Sprint(c.counts[url]), c.topic(url))
}

// part returns what a rule would send of a URL to a client at a position, as that of a
// poll does: what it has missed, or the whole document.
func (c *counted) part(url, position string) stream.Part {
	topics := []string{c.topic(url)}
	if seq, ok := c.hub.Resolve(position, topics); ok {
		if topic, ok := c.hub.Followed(position, seq, topics); ok {
			return stream.Part{URL: url, Source: &stream.Source{Cursor: c.hub.SubscribeAfter(topics, seq), Start: stream.Resumed, Followed: topic}}
		}
	}
	src := &stream.Source{Cursor: c.hub.Subscribe(topics)}
	frame, err := event.Event{Name: "whole", Data: fmt.Append(nil, c.counts[url])}.Encode()
	if err != nil {
		c.t.Fatal(err)
	}
	src.Initial = []*store.Entry{{Seq: c.hub.Head(), Topics: topics, Frame: frame}}
	return stream.Part{URL: url, Source: src}
}

// copies is what a client has of the documents.
type copies struct {
	counts   map[string]int
	position string
}

// take reads what the client has received of a stream before it was cut.
func (c *copies) take(t *testing.T, body string) {
	t.Helper()
	d := eventtest.NewDecoder(strings.NewReader(body), 0)
	for {
		e, err := d.Next()
		if err != nil {
			return
		}
		var of struct {
			URL, Event string
			Data       int
		}
		if err := json.Unmarshal(e.Data, &of); err != nil {
			t.Fatalf("%v in %q", err, e.Data)
		}
		if had, ok := c.counts[of.URL]; of.Event != "whole" && (!ok || of.Data != had+1) {
			t.Fatalf("a client with document %d (%v) of %s gets change %d, in %q", had, ok, of.URL, of.Data, body)
		}
		c.counts[of.URL] = of.Data
		if e.ID != "" {
			c.position = e.ID
		}
	}
}

// A client whose stream is cut at any byte, and that comes back with other URLs now and
// then, gets each change of each document once and in order: never one that doesn't
// follow what it has.
func TestModelMultiplexedClientCutAnywhereMissesNothing(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			c := &counted{t, newHub(t, store.History{}), make(map[string]int), make(map[string]int)}
			client := &copies{counts: make(map[string]int)}
			all := []string{"/a", "/b", "/c", "/d"}
			change := func() {
				for range r.IntN(6) {
					switch url := all[r.IntN(len(all))]; r.IntN(12) {
					case 0: // another view of the document begins
						c.views[url]++
					case 1:
						publish(t, c.hub, "x", "elsewhere")
					default:
						c.change(url)
					}
				}
			}
			urls := slices.Clone(all[:2])
			for round := range 20 {
				change()
				if r.IntN(4) == 0 {
					r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
					urls = slices.Clone(all[:1+r.IntN(len(all))])
				}
				var parts []stream.Part
				for _, url := range urls {
					parts = append(parts, c.part(url, client.position))
					if r.IntN(3) == 0 {
						c.change(all[r.IntN(len(all))])
					}
				}
				s, end := multiplex(c.hub, client.position, parts...)
				for range r.IntN(3) {
					c.change(all[r.IntN(len(all))])
					synctest.Wait()
				}
				end()
				body := s.since(0)
				if round < 19 {
					body = body[:r.IntN(len(body)+1)]
				}
				client.take(t, body)
			}
			for _, url := range urls {
				if client.counts[url] != c.counts[url] {
					t.Errorf("seed %d: the client has document %d of %s, which is %d", seed, client.counts[url], url, c.counts[url])
				}
			}
			if t.Failed() {
				t.FailNow()
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
