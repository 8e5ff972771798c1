package poll_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

const loginPage = "<!DOCTYPE html><title>Log in</title><form method=post></form>"

func asHTML(body string) *subrequest.Response {
	return document(body, "Content-Type", "text/html; charset=utf-8")
}

func TestLoginPageWith200IsNoDocument(t *testing.T) {
	for name, c := range map[string]struct {
		first, then *subrequest.Response
	}{
		"a login page for JSON":         {asJSON(`{"n":1}`), asHTML(loginPage)},
		"an error in HTML for a number": {asJSON(`1`), document("Internal error", "Content-Type", "text/plain")},
		"JSON for a page":               {asHTML("<p>1"), asJSON(`{"error":"not logged in"}`)},
		"a page for CSV":                {document("a,b\n1,2", "Content-Type", "text/csv"), asHTML(loginPage)},
		"a page for an image":           {document("\x89PNG\r\n\x1a\n", "Content-Type", "image/png"), asHTML(loginPage)},
	} {
		logged(t, poll.Config{Interval: 10 * second}, func(e *env, log *observer.ObservedLogs) {
			e.set(c.first)
			v := e.subscribe(newRequest("/doc"))
			first := v.got()[0]
			e.set(c.then)
			advance(16 * time.Second)
			v.want(t, first, "stale")
			if n := log.FilterMessageSnippet("backend fails").Len(); n != 1 {
				t.Errorf("%s: the log has %d lines", name, n)
			}
			e.set(c.first)
			advance(time.Minute)
			v.want(t, first, "stale", first)
		})
	}
}

func TestExpectedTypeAdmitsOnlyItsDocuments(t *testing.T) {
	responses := map[string]*subrequest.Response{
		"json":       asJSON(`{"n":1}`),
		"bare json":  document(`{"n":1}`),
		"json html":  asHTML(`{"n":1}`),
		"geo":        document(`{"n":1}`, "Content-Type", "application/geo+json"),
		"bad json":   asJSON(`{"n":`),
		"html":       asHTML(loginPage),
		"xhtml":      document(loginPage, "Content-Type", "application/xhtml+xml"),
		"bare html":  document(loginPage),
		"csv":        document("a,b", "Content-Type", "Text/CSV; header=present"),
		"png":        document("\x89PNG\r\n\x1a\n", "Content-Type", "image/png"),
		"bare png":   document("\x89PNG\r\n\x1a\n"),
		"empty":      document(""),
		"empty html": asHTML(""),
	}
	for expect, admitted := range map[string][]string{
		"json":                 {"json", "bare json", "json html", "geo"},
		"html":                 {"json html", "html", "xhtml", "bare html", "empty html"},
		"text/html":            {"json html", "html", "xhtml", "bare html", "empty html"},
		"text/csv":             {"csv"},
		"application/geo+json": {"geo"},
		"image/*":              {"png", "bare png"},
		"*/*":                  {"json", "bare json", "json html", "geo", "html", "xhtml", "bare html", "csv", "png", "bare png", "empty", "empty html"},
	} {
		want := make(map[string]bool)
		for _, name := range admitted {
			want[name] = true
		}
		for name, resp := range responses {
			within(t, poll.Config{Expect: expect}, func(e *env) {
				e.set(resp)
				v := e.subscribe(newRequest("/doc"))
				if got := v.got(); len(got) != 1 || want[name] == (got[0] == "stale") {
					t.Errorf("expect %s: the viewer of %s got %q", expect, name, got)
				}
			})
		}
	}
}

func TestExpectAllTypesAdmitsEveryChangeOfType(t *testing.T) {
	within(t, poll.Config{Expect: "*/*", Interval: second}, func(e *env) {
		e.set(asJSON(`{"n":1}`))
		v := e.subscribe(newRequest("/doc"))
		e.set(asHTML("<p>"))
		advance(2 * time.Second)
		e.set(asJSON(`{"n":`))
		advance(5 * time.Second)
		v.want(t, `{"n":1}`, "<p>", "stale")
	})
}

func TestAnotherTypeThatStaysIsTheViews(t *testing.T) {
	within(t, poll.Config{Interval: second}, func(e *env) {
		e.set(asHTML("<p>We will be back soon"))
		v := e.subscribe(newRequest("/doc"))
		e.set(asJSON(`{"n":1}`))
		advance(20 * time.Second)
		v.want(t, "<p>We will be back soon", "stale", `{"n":1}`)
		e.set(asHTML(loginPage))
		advance(10 * time.Minute)
		v.want(t, "<p>We will be back soon", "stale", `{"n":1}`, "stale")
	})
}

func TestAnotherTypeNowAndThenIsNotTheViews(t *testing.T) {
	within(t, poll.Config{Interval: second}, func(e *env) {
		e.set(asHTML("<p>1"))
		v := e.subscribe(newRequest("/doc"))
		for range 10 {
			e.set(document("error", "Content-Type", "text/plain"))
			advance(1500 * ms)
			e.set(asHTML("<p>1"))
			advance(20 * time.Second)
		}
		for _, got := range v.got() {
			if got != "<p>1" && got != "stale" {
				t.Errorf("the viewer got %q", got)
			}
		}
	})
}

func redirect(code int) *subrequest.Response {
	resp := status(code)
	resp.Header.Set("Location", "/login?next=/doc")
	return resp
}

// wantRefusal checks that a viewer got a refusal of the module's own.
func wantRefusal(t *testing.T, v *viewer, status int, kind string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	var refused *refusal.Error
	if !errors.As(v.err, &refused) || refused.Status != status || refused.Kind != kind {
		t.Errorf("the viewer got %v (%+v), want %d %s", v.err, v.refused, status, kind)
	}
}

func TestDocumentThatBeginsToRedirectIsRefused(t *testing.T) {
	for code, refused := range map[int]bool{302: true, 303: true, 307: true, 301: false, 308: false} {
		within(t, poll.Config{Interval: second}, func(e *env) {
			e.set(redirect(code))
			if got := e.subscribe(newRequest("/doc")).status(); got != code {
				t.Errorf("%d at the first poll is answered with %d", code, got)
			}
			e.set(document("1"))
			v := e.subscribe(newRequest("/doc"))
			e.set(redirect(code))
			advance(2 * time.Second)
			if !v.hasEnded() {
				t.Errorf("%d: the stream goes on", code)
			}
			for range 2 {
				back := e.resume(newRequest("/doc"), v.lastID())
				if refused {
					wantRefusal(t, back, http.StatusForbidden, refusal.NoDocument)
				} else if back.status() != code {
					t.Errorf("%d: the viewer who comes back gets %d", code, back.status())
				}
			}
			if got := e.subscribe(newRequest("/other")).status(); got != code {
				t.Errorf("%d of another document is answered with %d", code, got)
			}
			advance(11 * time.Minute)
			if got := e.subscribe(newRequest("/doc")).status(); got != code {
				t.Errorf("%d is answered with %d long after", code, got)
			}
			e.set(document("2"))
			e.subscribe(newRequest("/doc")).want(t, "2")
		})
	}
}

func TestSharedViewRefusesViewerWhoGetsLoginPage(t *testing.T) {
	for name, answer := range map[string]*subrequest.Response{"a page": asHTML(loginPage), "a redirect": redirect(302)} {
		within(t, shared, func(e *env) {
			c := newCookieBackend(e)
			c.setDocument(asJSON(`[1]`))
			viewers := []*viewer{e.subscribe(as("alice")), e.subscribe(as("bob"))}
			c.respond(answer, "alice", "eve")
			advance(time.Minute)
			c.setDocument(asJSON(`[2]`))
			advance(time.Minute)
			viewers[0].want(t, "[1]")
			if !viewers[0].isRevoked() {
				t.Errorf("%s: alice's stream goes on", name)
			}
			viewers[1].want(t, "[1]", "[2]")
			for _, who := range []string{"alice", "eve"} {
				wantRefusal(t, e.subscribe(as(who)), http.StatusForbidden, refusal.NoDocument)
			}
			c.respond(answer, "bob")
			advance(time.Minute)
			if name == "a page" {
				viewers[1].want(t, "[1]", "[2]", "stale")
			}
		})
	}
}

func TestCreatorOfSharedViewWhoGetsLoginPageSeesNothing(t *testing.T) {
	c := shared
	c.Expect = "json"
	within(t, c, func(e *env) {
		b := newCookieBackend(e)
		b.setDocument(asJSON(`[1]`))
		b.respond(asHTML(loginPage), "eve")
		eve := e.subscribe(as("eve"))
		bob := e.subscribe(as("bob"))
		advance(time.Minute)
		eve.want(t, "stale")
		bob.want(t, "[1]")
		b.respond(nil, "eve")
		advance(time.Minute)
		if !eve.hasEnded() {
			t.Error("eve's stream goes on")
		}
		e.subscribe(as("eve")).want(t, "[1]")
	})
}

func TestSelectTurnsErrorsOfGraphQLIntoStale(t *testing.T) {
	within(t, poll.Config{Interval: second, Select: `if .errors then error(.errors[0].message) else .data end`}, func(e *env) {
		e.set(asJSON(`{"data":{"pets":3}}`))
		v := e.subscribe(newRequest("/graphql"))
		e.set(asJSON(`{"errors":[{"message":"database is locked","path":["pets"]}],"data":null}`))
		advance(3 * time.Second)
		e.set(asJSON(`{"data":{"pets":4}}`))
		advance(20 * time.Second)
		v.want(t, `{"pets":3}`, "stale", `{"pets":4}`)
	})
}

func TestExpectIsChecked(t *testing.T) {
	for _, c := range []poll.Config{
		{Expect: "xml"}, {Expect: "JSON"}, {Expect: "text/csv; charset=utf-8"}, {Expect: "*/json"}, {Expect: "text/"}, {Expect: "text/a/b"}, {Expect: "json html"},
		{Expect: "html", Select: "."}, {Expect: "text/csv", Until: "."}, {Expect: "html", Send: "patch"},
		{Expect: "json", SelectCSS: "p"}, {Expect: "application/problem+json", SelectCSS: "p"},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	for _, c := range []poll.Config{{Expect: "json", Select: "."}, {Expect: "application/geo+json", Send: "patch"}, {Expect: "application/*", Select: "."}, {Expect: "*/*", Select: "."}, {Expect: "html", SelectCSS: "p"}} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzReadDocument checks that a response with a JSON type becomes JSON or an
// error, and that plain JSON is not touched.
func FuzzReadDocument(f *testing.F) {
	for body := range brokenJSON {
		f.Add("application/json", body)
	}
	for _, c := range []struct{ contentType, body string }{
		{"application/json; charset=utf-16", "\xff\xfe[\x00]\x00"}, {"text/json; charset=shift_jis", "\"\x93\xfa\""}, {"a/b+json;charset=iso-2022-kr", "[]"},
		{"application/json; charset=x-user-defined", "\"\x80\""}, {"application/stream+json", "1\n2"}, {";", ")]}',"},
	} {
		f.Add(c.contentType, c.body)
	}
	f.Fuzz(func(t *testing.T, contentType, body string) {
		if err := poll.CheckReading(document(body, "Content-Type", contentType)); err != nil {
			t.Error(fmt.Errorf("%q %q: %w", contentType, body, err))
		}
	})
}
