package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// Each response of the page has another token, as forms have.
func TestPageWithTokensIsLiveByItsElements(t *testing.T) {
	var responses, stock atomic.Int64
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, "<!DOCTYPE html>\n<title>Shop</title><form><input name=token value=%d></form>\n<ul id=stock>\n<li>%d dogs\n</ul>", responses.Add(1), stock.Load())
	})
	s := startSite(t, "", `
	sse /shop {
		poll 100ms {
			select css "#stock"
		}
	}
	sse /whole {
		poll 100ms {
			ignore_text "value=[0-9]+"
		}
	}
	reverse_proxy `+backend)
	list := func(dogs int64) string { return fmt.Sprintf("<ul id=\"stock\">\n<li>%d dogs\n</li></ul>", dogs) }
	for i, protocol := range protocols {
		query := fmt.Sprint("?", i) // a view of its own
		elements, whole := s.open(protocol, "/shop"+query), s.open(protocol, "/whole"+query)
		elements.expect("", list(stock.Load()))
		whole.next()
		before := responses.Load()
		waitFor(t, "five polls", func() bool { return responses.Load() > before+10 })
		stock.Add(1)
		elements.expect("", list(stock.Load())) // and no event before
		if got := string(whole.next().Data); !strings.Contains(got, fmt.Sprint(stock.Load(), " dogs")) {
			t.Errorf("%s: %q", protocol, got)
		}
		elements.close()
		whole.close()
	}
}

// The tree of such a page of 30 KiB would take 200 MB.
func TestPageWhoseFormattingElementsMultiplyIsStale(t *testing.T) {
	hostile := "<p>"
	for i := range 400 {
		hostile += fmt.Sprintf("<b a%d>", i)
	}
	hostile += strings.Repeat("<p>x", 6000)
	var multiplies atomic.Bool
	s := polled(t, "100ms {\n select css \"#stock\"\n }", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		page := "<p id=stock>1</p>"
		if multiplies.Load() {
			page += hostile
		}
		_, _ = io.WriteString(w, page)
	})
	for i, protocol := range protocols {
		multiplies.Store(false)
		c := s.open(protocol, fmt.Sprint("/api/x?", i))
		c.expect("", `<p id="stock">1</p>`)
		multiplies.Store(true)
		if e := c.next(); e.Name != "stale" || !strings.Contains(string(e.Data), "502") {
			t.Errorf("%s: %s %s", protocol, e.Name, e.Data)
		}
		if e := s.open(protocol, fmt.Sprint("/api/new?", i)).next(); e.Name != "stale" {
			t.Errorf("%s, a new viewer: %s %s", protocol, e.Name, e.Data)
		}
	}
}
