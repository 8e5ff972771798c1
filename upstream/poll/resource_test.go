package poll_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var private = poll.Config{Interval: second, Timeout: 3 * second}

// public returns a document with Cache-Control: public and more headers.
func public(body string, header ...string) func(*cookieBackend) {
	return func(c *cookieBackend) {
		c.setDocument(document(body, append([]string{"Cache-Control", "max-age=0, Public"}, header...)...))
	}
}

func TestPublicDocumentIsShared(t *testing.T) {
	within(t, private, func(e *env) {
		c := newCookieBackend(e)
		public("1")(c)
		c.respond(status(http.StatusForbidden), "eve")
		viewers := e.join("alice", "bob", "")
		if e.Views() != 1 {
			t.Errorf("there are %d views", e.Views())
		}
		wantRequesters(t, c, "alice", "bob", "")
		if got := e.subscribe(as("eve")).status(); got != http.StatusForbidden {
			t.Errorf("eve got %d", got)
		}
		public("2")(c)
		advance(time.Second)
		for _, v := range viewers {
			v.want(t, "1", "2")
		}
	})
}

func TestViewersWaitingForPublicDocumentAreChecked(t *testing.T) {
	within(t, private, func(e *env) {
		c := newCookieBackend(e)
		public("1")(c)
		c.delay(time.Second, "alice", "bob")
		viewers := []*viewer{e.start(as("alice"), new(caller), ""), e.start(as("bob"), new(caller), "")}
		advance(4 * time.Second)
		for _, v := range viewers {
			if got := v.got(); len(got) != 1 || got[0] != "1" {
				t.Errorf("got %q", got)
			}
		}
		if e.Views() != 1 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestUncacheableResponseStaysPrivate(t *testing.T) {
	for _, header := range [][]string{
		{"Set-Cookie", "a=b"},
		{"Cache-Control", "private"},
		{"Cache-Control", `Private="x"`},
		{"Cache-Control", "no-store"},
		{"Vary", "Cookie"},
		{"Vary", "Accept, authorization"},
		{"Vary", "X-Forwarded-For"},
		{"Vary", "*"},
	} {
		within(t, private, func(e *env) {
			c := newCookieBackend(e)
			public("1", header...)(c)
			e.join("alice", "bob")
			if e.Views() != 2 {
				t.Errorf("%q: there are %d views", header, e.Views())
			}
		})
	}
	for _, value := range []string{"", "max-age=60", `no-cache="public"`, "x-public", "publicly"} {
		within(t, private, func(e *env) {
			c := newCookieBackend(e)
			c.setDocument(document("1", "Cache-Control", value))
			e.join("alice", "bob")
			if e.Views() != 2 {
				t.Errorf("%q: there are %d views", value, e.Views())
			}
		})
	}
}

func TestVaryOverridesCacheability(t *testing.T) {
	c := private
	c.Vary = []string{"Cookie"}
	within(t, c, func(e *env) {
		public("1")(newCookieBackend(e))
		e.join("alice", "bob")
		if e.Views() != 2 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestDocumentNoLongerPublicSeparatesViewersForGood(t *testing.T) {
	within(t, private, func(e *env) {
		c := newCookieBackend(e)
		public("1")(c)
		viewers := e.join("alice", "bob")
		c.publish("2") // for the checked viewers only
		advance(time.Second)
		for _, v := range viewers {
			v.want(t, "1")
			if !v.hasEnded() {
				t.Error("a stream is still open")
			}
		}
		e.subscribe(as("alice")).want(t, "2")
		e.subscribe(as("bob")).want(t, "2")
		if e.Views() != 2 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestAlternatingCacheabilityStaysPrivate(t *testing.T) {
	within(t, private, func(e *env) {
		c := newCookieBackend(e)
		varies := []string{"Vary", "Accept-Language"}
		public("1", varies...)(c)
		de := e.subscribe(as("alice", "Accept-Language", "de"))
		advance(500 * ms)
		e.subscribe(as("bob", "Accept-Language", "en"))
		c.setDocument(document("2", varies...))
		advance(600 * ms)
		if !de.hasEnded() {
			t.Fatal("what is public no more is still shared")
		}
		e.subscribe(as("alice", "Accept-Language", "de")).want(t, "2")
		advance(time.Second)
		public("3", varies...)(c)
		carol := e.subscribe(as("carol", "Accept-Language", "de"))
		advance(10 * time.Second)
		carol.want(t, "3")
		if e.Views() != 2 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestFormerCacheabilityExpiresAfterLastView(t *testing.T) {
	c := private
	c.Linger = -1
	within(t, c, func(e *env) {
		c := newCookieBackend(e)
		public("1")(c)
		e.join("alice")
		c.publish("1")
		advance(time.Second)
		for _, v := range e.viewers {
			v.leave()
		}
		advance(15 * time.Minute)
		public("1")(c)
		e.join("alice", "bob")
		if e.Views() != 1 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestViewerOfPrivateResponseDoesNotJoinPublicView(t *testing.T) {
	within(t, private, func(e *env) {
		c := newCookieBackend(e)
		public(`"for all"`)(c)
		e.subscribe(as("")).want(t, `"for all"`)
		c.respond(document(`"carol's"`, "Cache-Control", "private"), "carol")
		carol := e.subscribe(as("carol"))
		carol.want(t, `"carol's"`)
		advance(3 * time.Second)
		carol.want(t, `"carol's"`)
		e.subscribe(as("")).want(t, `"for all"`)
	})
}

func TestNotModifiedWithoutCacheControlKeepsCacheability(t *testing.T) {
	within(t, private, func(e *env) {
		c := newCookieBackend(e)
		public("1", "ETag", `"1"`)(c)
		viewers := e.join("alice", "bob")
		c.setDocument(status(http.StatusNotModified))
		advance(10 * time.Second)
		if e.Views() != 1 || viewers[0].hasEnded() {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestPublicDocumentHasOneViewPerLanguage(t *testing.T) {
	within(t, private, func(e *env) {
		public("1", "Vary", "Accept-Language")(newCookieBackend(e))
		e.subscribe(as("alice", "Accept-Language", "de")).want(t, "1")
		e.subscribe(as("bob", "Accept-Language", "de")).want(t, "1")
		e.subscribe(as("carol", "Accept-Language", "en")).want(t, "1")
		if e.Views() != 2 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}
