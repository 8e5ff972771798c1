// Package template is text with placeholders in braces, as everywhere in Caddy.
//
// It is compiled here, and not left to Caddy's replacer, so that mistakes show
// when the configuration is loaded, and so that what takes a placeholder's
// place can never be taken for a placeholder itself.
package template

import (
	"fmt"
	"strings"
)

// Template is compiled text. It is safe for concurrent use.
type Template struct {
	parts []Part
}

// Part is literal text or a placeholder's name.
type Part struct {
	Text        string
	Placeholder bool
}

// Parts are what the template is made of, in order. They must not be changed.
func (t *Template) Parts() []Part { return t.parts }

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

func split(src string) (parts []Part, err error) {
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
				parts = append(parts, Part{text.String(), inside})
			}
			text.Reset()
			inside = !inside
		default:
			text.WriteByte(c)
		}
	}
	switch {
	case inside:
		return nil, fmt.Errorf("the placeholder {%s is not closed", text.String())
	case text.Len() > 0:
		parts = append(parts, Part{text.String(), false})
	}
	return parts, nil
}

// Placeholders are the names of the placeholders, without braces, in order.
func (t *Template) Placeholders() []string {
	var names []string
	for _, p := range t.parts {
		if p.Placeholder {
			names = append(names, p.Text)
		}
	}
	return names
}

// Expand joins the parts. What a placeholder stands for is asked of value,
// whose error ends the expansion.
func (t *Template) Expand(value func(name string) (string, error)) (string, error) {
	var out strings.Builder
	for _, p := range t.parts {
		text := p.Text
		if p.Placeholder {
			var err error
			if text, err = value(p.Text); err != nil {
				return "", err
			}
		}
		out.WriteString(text)
	}
	return out.String(), nil
}
