// Package template is text with placeholders in braces, as everywhere in Caddy.
//
// It is compiled here, and not left to Caddy's replacer, so that mistakes show
// when the configuration is loaded, and so that what takes a placeholder's
// place can never be taken for a placeholder itself.
package template

import (
	"errors"
	"fmt"
	"strings"
)

// Template is compiled text. It is safe for concurrent use.
type Template struct {
	parts []part
}

// part is literal text or a placeholder's name.
type part struct {
	text        string
	placeholder bool
}

// Compile compiles src. As in all of Caddy, \{ and \} are braces that are meant
// as such. {file.*} is refused: what a client sends must not choose files.
func Compile(src string) (*Template, error) {
	parts, err := split(src)
	if err != nil {
		return nil, fmt.Errorf("`%s`: %w", src, err)
	}
	t := &Template{parts}
	for _, name := range t.Placeholders() {
		if name == "" {
			return nil, fmt.Errorf("`%s`: the placeholder {} has no name", src)
		}
		if strings.HasPrefix(name, "file.") {
			return nil, fmt.Errorf("`%s`: {%s} can't be used here: nothing is read from files for a request", src, name)
		}
	}
	return t, nil
}

func split(src string) (parts []part, err error) {
	var text strings.Builder
	inside := false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\\' && i+1 < len(src) && (src[i+1] == '{' || src[i+1] == '}'):
			i++
			text.WriteByte(src[i])
		case c == '{' && inside, c == '}' && !inside:
			return nil, fmt.Errorf("unbalanced %q at byte %d: a brace that is meant as such is written \\%c", c, i, c)
		case c == '{', c == '}':
			if text.Len() > 0 || inside {
				parts = append(parts, part{text.String(), inside})
			}
			text.Reset()
			inside = !inside
		default:
			text.WriteByte(c)
		}
	}
	switch {
	case inside:
		return nil, errors.New("a placeholder is not closed")
	case text.Len() > 0:
		parts = append(parts, part{text.String(), false})
	}
	return parts, nil
}

// Placeholders are the names of the placeholders, without braces, in order.
func (t *Template) Placeholders() []string {
	var names []string
	for _, p := range t.parts {
		if p.placeholder {
			names = append(names, p.text)
		}
	}
	return names
}

// Expand joins the parts. What a placeholder stands for is asked of value,
// whose error ends the expansion.
func (t *Template) Expand(value func(name string) (string, error)) (string, error) {
	var out strings.Builder
	for _, p := range t.parts {
		text := p.text
		if p.placeholder {
			var err error
			if text, err = value(p.text); err != nil {
				return "", err
			}
		}
		out.WriteString(text)
	}
	return out.String(), nil
}
