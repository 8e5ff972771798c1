package markup

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"regexp"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// MaxDepth is the maximum nesting of an XML document.
const MaxDepth = 512

// xmlTree is an XML document as a tree whose names are in lower case, as
// selectors' are.
type xmlTree struct {
	root *html.Node
	at   map[*html.Node]span // of the elements
}

// span is where an element stands in the text.
type span struct{ start, end int64 }

func parseXML(text []byte) (*xmlTree, error) {
	tree := &xmlTree{root: &html.Node{Type: html.DocumentNode}, at: make(map[*html.Node]span)}
	decoder := xml.NewDecoder(bytes.NewReader(text))
	decoder.Entity = xml.HTMLEntity
	decoder.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil } // it is UTF-8 by now
	var open []xml.Name
	around := tree.root
	for {
		start := decoder.InputOffset()
		token, err := decoder.RawToken()
		switch {
		case err == io.EOF && len(open) == 0 && tree.root.FirstChild != nil:
			return tree, nil
		case err == io.EOF:
			return nil, errors.New("the XML document breaks off")
		case err != nil:
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if open = append(open, token.Name); len(open) > MaxDepth {
				return nil, fmt.Errorf("the XML document is nested deeper than %d", MaxDepth)
			}
			element := newElement(token)
			tree.at[element] = span{start: start}
			around.AppendChild(element)
			around = element
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != token.Name {
				return nil, fmt.Errorf("the XML document ends %s where it isn't open, at byte %d", token.Name.Local, start)
			}
			open = open[:len(open)-1]
			tree.at[around] = span{tree.at[around].start, decoder.InputOffset()}
			around = around.Parent
		case xml.CharData:
			around.AppendChild(&html.Node{Type: html.TextNode, Data: string(token)})
		}
	}
}

func newElement(token xml.StartElement) *html.Node {
	element := &html.Node{Type: html.ElementNode, Data: nameOf(token.Name)}
	for _, a := range token.Attr {
		element.Attr = append(element.Attr, html.Attribute{Key: nameOf(a.Name), Val: a.Value})
	}
	return element
}

// nameOf returns a name with its prefix, in lower case.
func nameOf(name xml.Name) string {
	if name.Space == "" {
		return strings.ToLower(name.Local)
	}
	return strings.ToLower(name.Space + ":" + name.Local)
}

// decodeXML returns a document in UTF-8. Its charset is that of a byte order
// mark, of the content type or of its declaration, in this order (RFC 7303 §3);
// otherwise it is UTF-8.
func decodeXML(document []byte, contentType string) ([]byte, error) {
	declared := ""
	if _, params, err := mime.ParseMediaType(contentType); err == nil {
		declared = params["charset"]
	}
	if found := xmlEncoding.FindSubmatch(document); declared == "" && found != nil {
		declared = string(found[1])
	}
	from := unicode.BOMOverride(unicode.UTF8.NewDecoder())
	if declared != "" {
		encoding, err := htmlindex.Get(declared)
		if err != nil {
			return nil, fmt.Errorf("the XML document's charset %q is unknown", declared)
		}
		from = unicode.BOMOverride(encoding.NewDecoder())
	}
	text, _, err := transform.Bytes(from, document)
	return text, err
}

var xmlEncoding = regexp.MustCompile(`^<\?xml[^>]*\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']`)
