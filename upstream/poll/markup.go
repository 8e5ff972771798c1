package poll

import (
	"context"
	"fmt"
	"hash/maphash"
	"regexp"
	"strings"
)

// readMarkup makes a document of the elements of an HTML or XML response that the
// rule's CSS selector selects.
func (c *Config) readMarkup(ctx context.Context, t mediaType, contentType string, body []byte) (*document, error) {
	var text []byte
	var err error
	switch {
	case t.isXML():
		text, err = c.elements.XML(ctx, body, contentType)
	case t.name == "text/html" || t.name == "":
		text, err = c.elements.HTML(ctx, body, contentType)
	default:
		err = fmt.Errorf("the response %s, and no HTML or XML", t.says())
	}
	if err != nil {
		return nil, programError(fmt.Errorf("select css: %w", err))
	}
	return &document{text: text}, nil
}

// isXML reports whether documents of the type are XML (RFC 7303 §8.1).
func (t mediaType) isXML() bool {
	return t.name == "text/xml" || t.name == "application/xml" || strings.HasSuffix(t.name, "+xml")
}

// compileIgnored compiles the expressions of ignore_text.
func compileIgnored(expressions []string) (compiled []*regexp.Regexp, err error) {
	for _, e := range expressions {
		re, err := regexp.Compile(e)
		switch {
		case err != nil:
			return nil, fmt.Errorf("ignore_text: %w; write a regular expression as Go has them (RE2)", err)
		case re.MatchString(""):
			return nil, fmt.Errorf("ignore_text %q matches the empty text, and so everywhere: write + in place of *", e)
		}
		compiled = append(compiled, re)
	}
	return compiled, nil
}

// setMeaning sets what of the document is compared, if the rule ignores text.
func (c *Config) setMeaning(d *document) {
	if len(c.ignored) == 0 {
		return
	}
	text := d.text
	for _, re := range c.ignored {
		text = re.ReplaceAll(text, nil)
	}
	d.meaning = &meaning{maphash.Bytes(seed, text), len(text)}
}

// meaning is a digest of a document without the text that the rule ignores.
type meaning struct {
	digest uint64
	length int
}
