// Package markup selects elements of HTML and XML documents by CSS selectors.
package markup

import (
	"context"
	"errors"
	"fmt"

	"github.com/andybalholm/cascadia"
	"golang.org/x/net/html"
	"golang.org/x/net/html/charset"

	"github.com/caddy-sse/caddy-sse/internal/budget"
)

// ErrNoMatch is returned for a document that has none of the selected elements.
var ErrNoMatch = errors.New("no element matches")

// Selector is a compiled CSS selector, or a list of them separated by commas
// (W3C Selectors, level 3, and some of level 4). It is immutable and safe for
// concurrent use.
type Selector struct {
	text  string
	group cascadia.SelectorGroup
}

// Compile compiles a selector.
func Compile(selector string) (*Selector, error) {
	group, err := cascadia.ParseGroup(selector)
	if err != nil {
		return nil, fmt.Errorf("%q is no CSS selector: %w", selector, err)
	}
	for _, s := range group {
		if name := s.PseudoElement(); name != "" {
			return nil, fmt.Errorf("%q selects no element: remove ::%s", selector, name)
		}
	}
	if err := checkParser(); err != nil {
		return nil, err
	}
	return &Selector{selector, group}, nil
}

// String returns the text that was compiled.
func (s *Selector) String() string { return s.text }

// HTML returns the selected elements of an HTML document in UTF-8, each on a line
// of its own, as a browser would write them (outerHTML). An element within a
// selected one is not repeated. The content type may name the document's charset.
//
// It fails with [ErrNoMatch], with [ErrMemory], with the context's cause if that
// ends, and for a document that is nested deeper than the parser allows. The
// document waits for its part of [budget.Process].
func (s *Selector) HTML(ctx context.Context, document []byte, contentType string) ([]byte, error) {
	from, _, _ := charset.DetermineEncoding(document, contentType)
	text, err := from.NewDecoder().Bytes(document)
	if err != nil {
		return nil, err
	}
	release, err := budget.Process.Take(ctx, treePerByte*int64(len(text)))
	if err != nil {
		return nil, err
	}
	defer release()
	root, err := parseHTML(ctx, text)
	if err != nil {
		return nil, err
	}
	selected := selection{max: textPerByte*len(text) + 1024}
	err = s.each(ctx, root, func(element *html.Node) error {
		if len(selected.text) > 0 {
			selected.text = append(selected.text, '\n')
		}
		return html.Render(&selected, element)
	})
	return selected.text, err
}

// textPerByte is how many bytes the selected elements may have for each byte of a
// page. Without formatting elements that are opened again they have up to five,
// for a quotation mark.
const textPerByte = 8

// selection collects the selected elements of a page.
type selection struct {
	text []byte
	max  int
}

func (s *selection) Write(b []byte) (int, error) {
	if len(s.text)+len(b) > s.max {
		return 0, fmt.Errorf("%w (the selected elements have more than %d bytes)", ErrMemory, s.max)
	}
	s.text = append(s.text, b...)
	return len(b), nil
}

// XML returns the selected elements of an XML document in UTF-8, each on a line of
// its own, in the document's own bytes: prefixes keep their meaning only with the
// declarations around them. Names are compared without case, and a name's prefix
// is part of it: dc\:date. An element within a selected one is not repeated. The
// content type may name the document's charset.
//
// It fails with [ErrNoMatch], with the context's cause if that ends, and for a
// document that isn't well-formed or is nested deeper than [MaxDepth]. The document
// waits for its part of [budget.Process].
func (s *Selector) XML(ctx context.Context, document []byte, contentType string) ([]byte, error) {
	text, err := decodeXML(document, contentType)
	if err != nil {
		return nil, err
	}
	release, err := budget.Process.Take(ctx, treePerByte*int64(len(text)))
	if err != nil {
		return nil, err
	}
	defer release()
	tree, err := parseXML(text)
	if err != nil {
		return nil, err
	}
	var selected []byte
	err = s.each(ctx, tree.root, func(element *html.Node) error {
		if len(selected) > 0 {
			selected = append(selected, '\n')
		}
		at := tree.at[element]
		selected = append(selected, text[at.start:at.end]...)
		return nil
	})
	return selected, err
}

// each calls use with each selected element that is in no other selected one, in
// the order of the document.
func (s *Selector) each(ctx context.Context, root *html.Node, use func(*html.Node) error) error {
	found := false
	for node := root; node != nil; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if node.Type != html.ElementNode || !s.matches(node) {
			node = next(node, root, true)
			continue
		}
		found = true
		if err := use(node); err != nil {
			return err
		}
		node = next(node, root, false)
	}
	if !found {
		return fmt.Errorf("%w %s", ErrNoMatch, s.text)
	}
	return nil
}

func (s *Selector) matches(node *html.Node) bool {
	for _, one := range s.group {
		if one.Match(node) {
			return true
		}
	}
	return false
}

// next returns the node after another in the order of the document, within it if
// that is wanted; nil after the root's last.
func next(node, root *html.Node, within bool) *html.Node {
	if within && node.FirstChild != nil {
		return node.FirstChild
	}
	for ; node != nil && node != root; node = node.Parent {
		if node.NextSibling != nil {
			return node.NextSibling
		}
	}
	return nil
}
