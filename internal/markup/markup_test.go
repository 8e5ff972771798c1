package markup_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/markup"
)

func compile(t testing.TB, selector string) *markup.Selector {
	t.Helper()
	s, err := markup.Compile(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// djangoAdmin is a page whose form token differs in each response.
const djangoAdmin = `<!DOCTYPE html>
<html lang="en-us" dir="ltr"><head><title>Orders</title></head>
<body class=" app-shop model-order change-list"
  data-admin-utc-offset="0">
<form id="logout-form" method="post" action="/admin/logout/">
<input type="hidden" name="csrfmiddlewaretoken" value="DUdTeu5AfWGTfDDqQe0PzLNmeNcKHZrN">
<button type="submit">Log out</button></form>
<div class="results">
<table id="result_list"><tbody>
<tr><td class="field-id"><a href="/admin/shop/order/1/change/">1</a><td class="field-total">5,00 &euro;
<tr><td class="field-id"><a href="/admin/shop/order/2/change/">2</a><td class="field-total">7 &lt; 8
</table></div>
<p class="paginator">2 orders</p></body></html>`

func TestSelectorPicksElementsOfHTML(t *testing.T) {
	for selector, want := range map[string]string{
		"#result_list .field-total":                "<td class=\"field-total\">5,00 €\n</td>\n<td class=\"field-total\">7 &lt; 8\n</td>",
		"p.paginator":                              `<p class="paginator">2 orders</p>`,
		"P.paginator, title":                       "<title>Orders</title>\n" + `<p class="paginator">2 orders</p>`,
		`[name=csrfmiddlewaretoken]`:               `<input type="hidden" name="csrfmiddlewaretoken" value="DUdTeu5AfWGTfDDqQe0PzLNmeNcKHZrN"/>`,
		"tr:nth-child(2) a":                        `<a href="/admin/shop/order/2/change/">2</a>`,
		"tr:has(td:contains('5,00')) a":            `<a href="/admin/shop/order/1/change/">1</a>`,
		"form, form button, #logout-form > *":      "<form id=\"logout-form\" method=\"post\" action=\"/admin/logout/\">\n<input type=\"hidden\" name=\"csrfmiddlewaretoken\" value=\"DUdTeu5AfWGTfDDqQe0PzLNmeNcKHZrN\"/>\n<button type=\"submit\">Log out</button></form>",
		"body.change-list > p:not(.errornote)":     `<p class="paginator">2 orders</p>`,
		"div.results ~ p, div.results + p, body p": `<p class="paginator">2 orders</p>`,
	} {
		got, err := compile(t, selector).HTML(t.Context(), []byte(djangoAdmin), "text/html; charset=utf-8")
		if err != nil || string(got) != want {
			t.Errorf("%s selects %q, %v, want %q", selector, got, err, want)
		}
	}
}

// feed has a date that differs in each response.
const feed = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE rss [<!ENTITY a "b">]>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel>
 <lastBuildDate>Fri, 27 Nov 2026 12:00:00 +0000</lastBuildDate>
 <item><title>One &amp; two</title><pubDate>Thu</pubDate><dc:creator>Ann</dc:creator><empty/></item>
 <item xml:lang='de'><title><![CDATA[<b>Zwei</b>]]></title><guid isPermaLink="false">x</guid></item>
</channel></rss>
`

func TestSelectorPicksElementsOfXMLInTheirOwnBytes(t *testing.T) {
	for selector, want := range map[string]string{
		"item":                       "<item><title>One &amp; two</title><pubDate>Thu</pubDate><dc:creator>Ann</dc:creator><empty/></item>\n<item xml:lang='de'><title><![CDATA[<b>Zwei</b>]]></title><guid isPermaLink=\"false\">x</guid></item>",
		"pubDate":                    "<pubDate>Thu</pubDate>",
		`dc\:creator`:                "<dc:creator>Ann</dc:creator>",
		"empty":                      "<empty/>",
		"[isPermaLink=false]":        `<guid isPermaLink="false">x</guid>`,
		"item:contains('Zwei') guid": `<guid isPermaLink="false">x</guid>`,
		"channel > item title":       "<title>One &amp; two</title>\n<title><![CDATA[<b>Zwei</b>]]></title>",
	} {
		got, err := compile(t, selector).XML(t.Context(), []byte(feed), "application/rss+xml")
		if err != nil || string(got) != want {
			t.Errorf("%s selects %q, %v, want %q", selector, got, err, want)
		}
	}
}

func TestDocumentInAnotherCharsetIsRead(t *testing.T) {
	selector := compile(t, "p")
	for name, c := range map[string]struct{ document, contentType string }{
		"declared by the response": {"<p>5 \x80</p>", "text/html; charset=windows-1252"},
		"declared by the page":     {"<meta charset=windows-1252><p>5 \x80</p>", "text/html"},
		"a byte order mark":        {"\xEF\xBB\xBF<p>5 \xE2\x82\xAC</p>", "text/html; charset=iso-8859-1"},
		"UTF-16":                   {"\xFF\xFE<\x00p\x00>\x005\x00 \x00\xAC\x20<\x00/\x00p\x00>\x00", "text/html"},
	} {
		got, err := selector.HTML(t.Context(), []byte(c.document), c.contentType)
		if err != nil || string(got) != "<p>5 €</p>" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, c := range map[string]struct{ document, contentType string }{
		"declared by the response": {"<a><p>5 \x80</p></a>", "text/xml; charset=windows-1252"},
		"declared by the document": {"<?xml version='1.0' encoding='windows-1252'?><a><p>5 \x80</p></a>", "text/xml"},
		"by default":               {"<a><p>5 €</p></a>", ""},
		"a byte order mark":        {"\xEF\xBB\xBF<?xml version='1.0' encoding='windows-1252'?><a><p>5 €</p></a>", "text/xml"},
		"UTF-16":                   {"\xFF\xFE<\x00p\x00>\x005\x00 \x00\xAC\x20<\x00/\x00p\x00>\x00", "text/xml"},
	} {
		got, err := selector.XML(t.Context(), []byte(c.document), c.contentType)
		if err != nil || string(got) != "<p>5 €</p>" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestDocumentWithoutTheElementIsError(t *testing.T) {
	selector := compile(t, "#stock")
	for _, got := range []func() ([]byte, error){
		func() ([]byte, error) { return selector.HTML(t.Context(), []byte("<p>Log in</p>"), "text/html") },
		func() ([]byte, error) { return selector.HTML(t.Context(), nil, "") },
		func() ([]byte, error) { return selector.XML(t.Context(), []byte("<a/>"), "text/xml") },
	} {
		if selected, err := got(); !errors.Is(err, markup.ErrNoMatch) || !strings.Contains(err.Error(), "#stock") {
			t.Errorf("%q, %v", selected, err)
		}
	}
}

func TestBrokenXMLIsError(t *testing.T) {
	for _, document := range []string{"", "text", "<a>", "<a></b>", "<a></A>", "<a><b></a></b>", "</a>", "<a/></a>", "<a>&unknown;</a>", `{"a":1}`, "<a b=c/>",
		strings.Repeat("<a>", markup.MaxDepth+1), "<?xml version='1.0' encoding='klingon'?><a/>"} {
		if got, err := compile(t, "a").XML(t.Context(), []byte(document), "text/xml"); err == nil {
			t.Errorf("%.40q: %q", document, got)
		}
	}
}

func TestSelectionEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("late")
	cancel(late)
	if _, err := compile(t, "p").HTML(ctx, []byte("<p>"), ""); !errors.Is(err, late) {
		t.Errorf("%v", err)
	}
	if _, err := compile(t, "p").XML(ctx, []byte("<p/>"), ""); !errors.Is(err, late) {
		t.Errorf("%v", err)
	}
}

func TestSelectorThatSelectsNoElementIsRefused(t *testing.T) {
	for _, selector := range []string{"", "p >", "p::before", "a:unknown", "[", ".pets[:2]", ".orders | length"} {
		if s, err := markup.Compile(selector); err == nil {
			t.Errorf("%q is %v", selector, s)
		}
	}
}

func FuzzHTML(f *testing.F) {
	f.Add(djangoAdmin, "text/html")
	f.Add("<p><svg><math><p>", "text/html; charset=utf-16")
	selector := compile(f, "p, td, a:nth-last-of-type(2)")
	f.Fuzz(func(t *testing.T, document, contentType string) {
		_, _ = selector.HTML(t.Context(), []byte(document), contentType)
	})
}

// Selected elements are pieces of the document.
func FuzzXML(f *testing.F) {
	f.Add(feed)
	f.Add("<a><b/></a>")
	selector := compile(f, "item, b, :root > *")
	f.Fuzz(func(t *testing.T, document string) {
		got, err := selector.XML(t.Context(), []byte(document), "text/xml; charset=utf-8")
		if err != nil {
			return
		}
		for part := range strings.Lines(string(got)) {
			if !strings.Contains(strings.ToValidUTF8(document, "\uFFFD"), strings.TrimSuffix(part, "\n")) {
				t.Errorf("%q isn't in %q", part, document)
			}
		}
	})
}
