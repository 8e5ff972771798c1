package markup

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// treeSize returns how many bytes the nodes of a tree and their attributes take.
func treeSize(root *html.Node) (size int) {
	for node := root; node != nil; node = next(node, root, true) {
		size += sizeOfNode + len(node.Attr)*sizeOfAttribute
	}
	return size
}

// formattingOf returns n formatting elements that differ from each other.
func formattingOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<b a%d>", i)
	}
	return b.String()
}

// pages are pages of a size of which parsers make many nodes.
func pages(size int) map[string]string {
	of := func(part string) string { return strings.Repeat(part, size/len(part)) }
	return map[string]string{
		"paragraphs":           of("<p>"),
		"paragraphs with text": of("<p>x"),
		"void elements":        of("x<br>"),
		"end tags":             of("</p>x"),
		"ends of line breaks":  of("</br>x"),
		"items":                of("<li>x"),
		"cells":                "<table>" + of("<td>x"),
		"rows":                 "<table>" + of("<tr>x"),
		"bodies of tables":     "<table>" + of("<tbody>x<td>y"),
		"columns":              "<table>" + of("<col><tr>"),
		"tables":               of("<table><td>x</table>"),
		"options":              "<select>" + of("<option>x"),
		"comments":             of("<!>x"),
		"attributes":           of("<p a b c=d e='f'g/h>"),
		"many attributes":      "<p " + strings.Join(strings.Fields(formattingOf(500)), " ") + ">",
		"SVG":                  "<svg>" + of("<g/>x"),
		"templates":            of("<template>x</template>"),
		"links":                of("<a><p>x"),
		"links in divisions":   of("<a>x<div></a>y</div>"),
		"nested formatting":    of("<p><b><i><u><em><code>x</code></em></u></i></b></p>"),
		"old formatting":       "<font size=2><b>" + of("<p><font color=red>x<p>y</font>"),
		"text":                 of("&lt;"),
		"tags in a script":     "<script>" + of("<b"),
	}
}

// hostilePages are pages whose formatting elements make a tree of thousands of
// times the page.
func hostilePages(size int) map[string]string {
	of := func(part string) string { return strings.Repeat(part, size/len(part)) }
	attributes := strings.ReplaceAll(strings.TrimSpace(formattingOf(400)), "><b", "")
	return map[string]string{
		"in divisions":          "<div>" + formattingOf(400) + "</div>" + of("<div>x</div>"),
		"in text":               "<p>" + formattingOf(400) + of("<p>x"),
		"beside cells":          "<table>" + formattingOf(400) + of("<tr>x"),
		"with many attributes":  "<p>" + strings.Repeat(attributes, 3) + of("<p>x"),
		"of each name":          "<p>" + strings.Repeat("<b><i><u><s><tt><em><big><code><font><small><strike><strong>", 3) + of("<p>x"),
		"in a template":         "<template><p>" + formattingOf(400) + of("<p>x</p>"),
		"after foreign content": "<svg><title><p>" + formattingOf(400) + of("<p>x</p>"),
	}
}

// No page takes more than twice what treePerByte says, not even for a moment.
func TestTreeOfHostilePageIsBounded(t *testing.T) {
	const size = 200_000
	for name, page := range hostilePages(size) {
		w := &watch{ctx: t.Context(), rest: []byte(page), max: minTree + treePerByte*len(page)}
		_, err := html.ParseWithOptions(w, observe(&w.parser))
		if !errors.Is(err, ErrMemory) {
			t.Errorf("formatting elements %s: %v", name, err)
		}
		if got := treeSize(w.document); got > 2*w.max {
			t.Errorf("formatting elements %s: the tree takes %d bytes, %d times the page", name, got, got/len(page))
		}
		if len(w.rest) == 0 {
			t.Errorf("formatting elements %s: the whole page was read", name)
		}
	}
}

func TestTreeOfOtherPagesIsWhole(t *testing.T) {
	for name, page := range pages(100_000) {
		root, err := parseHTML(t.Context(), []byte(page))
		want, wantErr := html.Parse(strings.NewReader(page))
		if err != nil || wantErr != nil {
			t.Errorf("%s: %v, %v", name, err, wantErr)
			continue
		}
		var got, whole bytes.Buffer
		if html.Render(&got, root) != nil || html.Render(&whole, want) != nil || !bytes.Equal(got.Bytes(), whole.Bytes()) {
			t.Errorf("%s is parsed otherwise than by the html package", name)
		}
	}
}

func TestParserCanBeObserved(t *testing.T) {
	if err := checkParser(); err != nil {
		t.Error(err)
	}
}

// FuzzTree hunts for pages whose tree grows faster than growth says.
func FuzzTree(f *testing.F) {
	for _, page := range pages(300) {
		f.Add(page)
	}
	for _, page := range hostilePages(300) {
		f.Add(page)
	}
	f.Fuzz(func(t *testing.T, page string) {
		w := &watch{ctx: t.Context(), rest: []byte(page), max: 1 << 40}
		_, _ = html.ParseWithOptions(w, observe(&w.parser))
		const start = 8 * 112 // html, head and body
		if got := treeSize(w.document); got > w.grown+start {
			t.Errorf("the tree takes %d bytes, and %d were foreseen", got, w.grown)
		}
	})
}

func BenchmarkHTML(b *testing.B) {
	page := []byte("<html><body>" + strings.Repeat(`<tr class="row"><td class="a"><a href="/orders/1">Order <b>1</b></a></td><td>5,00 <i class="fa"></i></td></tr>`, 10_000))
	for name, parse := range map[string]func() error{
		"bounded":  func() error { _, err := parseHTML(b.Context(), page); return err },
		"standard": func() error { _, err := html.Parse(bytes.NewReader(page)); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(page)))
			for b.Loop() {
				if err := parse(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
