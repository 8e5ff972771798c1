package poll_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func asType(contentType, body string) *subrequest.Response {
	return document(body, "Content-Type", contentType)
}

// page is a page of a shop: its token differs in each response.
func page(token, stock string) *subrequest.Response {
	return asType("text/html; charset=utf-8", `<!DOCTYPE html><form><input type="hidden" name="csrfmiddlewaretoken" value="`+token+`"></form>
<main><p id="stock">`+stock+`</p>
</main><!-- `+token+` -->`)
}

func TestChangesOutsideOfSelectedElementsSendNothing(t *testing.T) {
	within(t, poll.Config{SelectCSS: "#stock"}, func(e *env) {
		e.set(page("a", "5"))
		v := e.subscribe(newRequest("/doc"))
		for _, next := range []*subrequest.Response{page("b", "5"), page("c", "4"), page("d", "4")} {
			e.set(next)
			advance(2 * time.Second)
		}
		v.want(t, `<p id="stock">5</p>`, `<p id="stock">4</p>`)
	})
}

func TestElementsOfXMLAreSelected(t *testing.T) {
	within(t, poll.Config{SelectCSS: "item"}, func(e *env) {
		e.set(asType("application/rss+xml", "<rss><lastBuildDate>1</lastBuildDate><item><title>A &amp; b</title></item></rss>"))
		v := e.subscribe(newRequest("/doc"))
		e.set(asType("application/rss+xml; charset=utf-8", "<rss><lastBuildDate>2</lastBuildDate><item><title>A &amp; b</title></item></rss>"))
		advance(2 * time.Second)
		v.want(t, "<item><title>A &amp; b</title></item>")
	})
}

// A login page with status 200 isn't the document.
func TestPageWithoutSelectedElementIsStale(t *testing.T) {
	for name, resp := range map[string]*subrequest.Response{
		"another page": asType("text/html", "<h1>Log in</h1>"),
		"JSON":         asType("application/json", `{"stock":5}`),
		"broken XML":   asType("text/xml", `<p id="stock">5`),
		"empty":        asType("text/html", ""),
	} {
		t.Run(name, func(t *testing.T) {
			within(t, poll.Config{SelectCSS: "#stock"}, func(e *env) {
				e.set(page("a", "5"))
				v := e.subscribe(newRequest("/doc"))
				e.set(resp)
				advance(2 * time.Second)
				v.want(t, `<p id="stock">5</p>`, "stale")
			})
		})
	}
}

func TestTextThatIsIgnoredMakesNoChange(t *testing.T) {
	for name, c := range map[string]struct {
		ignore []string
		page   func(token, stock string) *subrequest.Response
	}{
		"HTML": {[]string{`value="[^"]*"`, `<!-- .* -->`}, page},
		"JSON": {[]string{`"generated":"[^"]*"`}, func(token, stock string) *subrequest.Response {
			return asType("application/json", `{ "generated" : "`+token+`", "stock": `+stock+` }`)
		}},
		"text": {[]string{`(?m)^# .*$`}, func(token, stock string) *subrequest.Response {
			return asType("text/plain", "# "+token+"\nstock "+stock+"\n")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, poll.Config{IgnoreText: c.ignore}, func(e *env) {
				e.set(c.page("a", "5"))
				v := e.subscribe(newRequest("/doc"))
				for _, next := range []*subrequest.Response{c.page("b", "5"), c.page("c", "4"), c.page("d", "4"), c.page("c", "4")} {
					e.set(next)
					advance(2 * time.Second)
				}
				got := v.got()
				if len(got) != 2 || !strings.Contains(got[0], "a") || !strings.Contains(got[0], "5") || !strings.Contains(got[1], "c") || !strings.Contains(got[1], "4") {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

func TestSelectAndIgnoreTextRefuseWhatCannotWork(t *testing.T) {
	for want, c := range map[string]poll.Config{
		"is no CSS selector":     {SelectCSS: ".a >"},
		"exclude each other":     {SelectCSS: ".a", Select: ".a"},
		"send and until":         {SelectCSS: ".a", Send: "patch"},
		"remove them, or select": {SelectCSS: ".a", Until: ".a"},
		"matches the empty text": {IgnoreText: []string{"a", "b*"}},
		"regular expression":     {IgnoreText: []string{"("}},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// An operator who doesn't see the document learns which parts of it make every
// poll an event.
func TestLogNamesPartsThatChangeWithEveryPoll(t *testing.T) {
	for name, c := range map[string]struct {
		page func(i int) *subrequest.Response
		want string
	}{
		"a member": {func(i int) *subrequest.Response {
			return asType("application/json", fmt.Sprintf(`{"stock":5,"meta":{"at":%d},"items":[{"id":1,"name":"a dog"},{"id":2,"name":"a cat"}]}`, i))
		}, "[/meta/at]"},
		"many members": {func(i int) *subrequest.Response {
			return asType("application/json", fmt.Sprintf(`{"a":%d,"b":%[1]d,"c":%[1]d,"d":%[1]d,"e":%[1]d,"text":"%s"}`, i, strings.Repeat("x", 1000)))
		}, "[/a /b /c and 2 more]"},
		"a line":   {func(i int) *subrequest.Response { return page("t", fmt.Sprint(i)) }, "[line 2]"},
		"lines":    {func(i int) *subrequest.Response { return page(fmt.Sprint(i), "5") }, "[lines 1 to 3]"},
		"all":      {func(i int) *subrequest.Response { return asType("application/json", fmt.Sprint(i)) }, "[nearly all of it]"},
		"nothing":  {func(i int) *subrequest.Response { return page("t", "5") }, ""},
		"not each": {func(i int) *subrequest.Response { return page("t", fmt.Sprint(i/9)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.InfoLevel)
				e := newEnvWith(t, poll.Config{}, store.NewMemory(), zap.New(core), nil)
				defer e.end()
				for i, r := range []*http.Request{newRequest("/doc"), newRequest("/doc?again")} {
					e.set(c.page(100 * i))
					e.subscribe(r)
				}
				for i := range 25 {
					e.set(c.page(i + 1))
					advance(2 * time.Second)
				}
				said := logs.FilterMessageSnippet("changes with every poll").All()
				if c.want == "" && len(said) == 0 {
					return
				}
				if len(said) != 1 || fmt.Sprint(said[0].ContextMap()["parts"]) != c.want {
					t.Errorf("%v, want %s", said, c.want)
				}
			})
		})
	}
}
