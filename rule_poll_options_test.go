package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The table has versions of a document, the option `send`, and the events.
func TestChangesAreSentAsConfigured(t *testing.T) {
	const before = `{"shop": "x", "orders": [{"id": 1, "stock": 5}, {"id": 2, "stock": 9007199254740993}]}`
	for _, c := range []struct {
		name, options string
		after         string
		first         string
		want          [][2]string
	}{
		{
			name: "the whole document", options: "send full",
			after: `{"shop": "y"}`,
			first: `{"shop":"x","orders":[{"id":1,"stock":5},{"id":2,"stock":9007199254740993}]}`,
			want:  [][2]string{{"", `{"shop":"y"}`}},
		},
		{
			name: "a JSON patch", options: "send patch",
			after: strings.Replace(before, "5", "4", 1),
			first: `{"shop":"x","orders":[{"id":1,"stock":5},{"id":2,"stock":9007199254740993}]}`,
			want:  [][2]string{{"patch", `[{"op":"replace","path":"/orders/0/stock","value":4}]`}},
		},
		{
			name: "a merge patch", options: "send merge",
			after: strings.Replace(before, `"x"`, `"y"`, 1),
			first: `{"shop":"x","orders":[{"id":1,"stock":5},{"id":2,"stock":9007199254740993}]}`,
			want:  [][2]string{{"merge", `{"shop":"y"}`}},
		},
		{
			name: "items of the part that counts", options: "select .orders\n send items id",
			after: `{"shop": "another", "orders": [{"id": 3}, {"id": 2, "stock": 9007199254740993}]}`,
			first: `[{"id":1,"stock":5},{"id":2,"stock":9007199254740993}]`,
			want:  [][2]string{{"removed", `{"key":1,"old":{"id":1,"stock":5}}`}, {"added", `{"key":3,"item":{"id":3}}`}},
		},
		{
			name: "what a jq program makes of it",
			options: "send jq `.old.orders as $old | .new.orders[] as $n | $old[] | select(.id == $n.id and .stock != $n.stock)" +
				` | {event: "stock-change", data: {petId: .id, oldStock: .stock, newStock: $n.stock}}` + "`\n first document",
			after: strings.Replace(before, "5", "4", 1),
			first: `{"shop":"x","orders":[{"id":1,"stock":5},{"id":2,"stock":9007199254740993}]}`,
			want:  [][2]string{{"stock-change", `{"petId":1,"oldStock":5,"newStock":4}`}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := newDocument(before)
			s := polled(t, "1h {\n "+c.options+"\n }", doc.ServeHTTP)
			for _, protocol := range protocols {
				doc.set(before)
				path := "/api/" + protocol
				viewer := s.open(protocol, path)
				viewer.expect("", c.first)
				s.do("PUT", path, c.after)
				for _, want := range c.want {
					viewer.expect(want[0], want[1])
				}
			}
		})
	}
}

func TestReconnectingClientReceivesMissedPatches(t *testing.T) {
	doc := newDocument(`{"n":0,"pad":"` + strings.Repeat("x", 100) + `"}`)
	s := polled(t, "1h {\n send patch\n }", doc.ServeHTTP)
	stays := s.open("HTTP/2.0", "/api/x")
	stays.next()
	leaves := s.open("HTTP/2.0", "/api/x")
	position := leaves.next().ID
	leaves.close()
	patch := func(n int) string { return fmt.Sprintf(`[{"op":"replace","path":"/n","value":%d}]`, n) }
	for n := 1; n <= 3; n++ {
		s.do("PUT", "/api/x", strings.Replace(doc.content, fmt.Sprintf(`"n":%d`, n-1), fmt.Sprintf(`"n":%d`, n), 1))
		stays.expect("patch", patch(n))
	}
	back := s.open("HTTP/2.0", "/api/x", "Last-Event-ID", position)
	for n := 1; n <= 3; n++ {
		back.expect("patch", patch(n))
	}
	late := s.open("HTTP/2.0", "/api/x")
	if e := late.next(); e.Name != "" || !strings.HasPrefix(string(e.Data), `{"n":3,`) {
		t.Errorf("a new viewer gets event %q with %q first, want the whole document", e.Name, e.Data)
	}
}

func TestFinishedDocumentEndsStreamsPermanently(t *testing.T) {
	doc := newDocument(`{"status":"paid"}`)
	s := polled(t, "1h {\n until `.status == \"shipped\"`\n }", doc.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			doc.set(`{"status":"paid"}`)
			path := "/api/orders/" + protocol
			c := s.open(protocol, path)
			c.expect("", `{"status":"paid"}`)
			s.do("PUT", path, `{"status":"shipped"}`)
			shipped := c.expect("", `{"status":"shipped"}`)
			complete := c.expect("complete", `{}`)
			c.ended()
			if resp := s.doOver(protocol, "GET", path, "", "Accept", "text/event-stream", "Last-Event-ID", complete.ID); resp.StatusCode != http.StatusNoContent {
				t.Errorf("the reconnect got %s, want 204", resp.Status)
			} else if resp.Header.Get("Cache-Control") != "no-store" {
				t.Error("a cache may store it, and send it to clients that have not seen the document")
			}
			c = s.open(protocol, path, "Last-Event-ID", shipped.ID)
			c.expect("complete", `{}`)
			c.ended()
			c = s.open(protocol, path)
			c.expect("", `{"status":"shipped"}`)
			c.expect("complete", `{}`)
			c.ended()
		})
	}
}

func TestUnsafeRequestToRefreshPathInvalidates(t *testing.T) {
	doc := newDocument(`"before"`)
	s := polled(t, "1h {\n refresh /checkout\n }", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			doc.set(`"after ` + r.URL.Path + `"`)
			return
		}
		doc.ServeHTTP(w, r)
	})
	for _, path := range []string{"/checkout", "/checkout/confirm"} {
		c := s.open("HTTP/1.1", "/api"+path)
		c.next()
		s.do("POST", path, "")
		c.expect("", `"after `+path+`"`)
	}
}

func TestBackendsOwnEventStreamPassesThrough(t *testing.T) {
	s := polled(t, "1s", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: own\ndata: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	for _, protocol := range protocols {
		s.open(protocol, "/api/x").expect("own", "1")
	}
}

func TestPollHonorsRetryAfter(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "100ms", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		doc.ServeHTTP(w, r)
	})
	c := s.open("HTTP/1.1", "/api/x")
	c.expect("", `1`)
	s.do("PUT", "/api/x", `2`) // an invalidation doesn't wait
	c.expect("", `2`)
	if n := doc.count(); n != 2 {
		t.Errorf("%d polls, want 2", n)
	}
}

func TestUnsafeRequestThroughTwoRulesCostsOnePoll(t *testing.T) {
	doc := newDocument(`1`)
	s := polled(t, "1h {\n refresh /api\n }", doc.ServeHTTP)
	c := s.open("HTTP/1.1", "/api/x")
	c.expect("", `1`)
	s.do("PUT", "/api/x", `2`)
	c.expect("", `2`)
	time.Sleep(300 * time.Millisecond) // long enough to notice what must not happen
	if n := doc.count(); n != 2 {
		t.Errorf("%d polls, want 2", n)
	}
}

func TestVaryMayNameClientHint(t *testing.T) {
	s := polled(t, "1h {\n vary Accept-Language\n }", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q", r.Header.Get("Accept-Language"))
	})
	for _, language := range []string{"de", "fr"} {
		s.open("HTTP/1.1", "/api/x", "Accept-Language", language).expect("", fmt.Sprintf("%q", language))
	}
}
