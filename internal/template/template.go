// Package template expands text with placeholders in braces, as everywhere in
// Caddy.
//
// Unlike Caddy's replacer, [Compile] reports mistakes when the configuration is
// loaded, and [Template.Expand] never expands placeholders in a value.
package template

import (
	"fmt"
	"strings"
)

// Template is a compiled template. It is safe for concurrent use.
type Template struct {
	parts []Part
}

// Part is literal text or the name of a placeholder.
type Part struct {
	Text        string
	Placeholder bool
}

// Parts returns the parts of the template, in order. Callers must not change
// them.
func (t *Template) Parts() []Part { return t.parts }

// Compile compiles src. As everywhere in Caddy, \{ and \} are literal braces. It
// refuses {file.*}: a client's data must not choose files.
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
			return nil, fmt.Errorf("`%s`: {%s} is not available here: templates don't read files", src, name)
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
			return nil, fmt.Errorf("unbalanced %q at byte %d: write a literal brace as \\%c", c, i, c)
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

// Placeholders returns the names of the placeholders, without braces, in order.
func (t *Template) Placeholders() []string {
	var names []string
	for _, p := range t.parts {
		if p.Placeholder {
			names = append(names, p.Text)
		}
	}
	return names
}

// Expand returns the text with each placeholder replaced by what value returns. An
// error of value ends the expansion.
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
