package webhook

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/template"
)

// mapped is a template for one field of an event.
type mapped struct {
	*template.Template
	// field is what the template is for, for reasons: "topic".
	field string
}

const (
	jsonPrefix = "json."
	formPrefix = "form."
)

// compileTemplate compiles src. An empty source is no template: nil.
func compileTemplate(field, src string) (*mapped, error) {
	if src == "" {
		return nil, nil
	}
	t, err := template.Compile(src)
	if err != nil {
		return nil, fmt.Errorf("%s %w", field, err)
	}
	for _, name := range t.Placeholders() {
		if err := checkPlaceholder(name); err != nil {
			return nil, fmt.Errorf("%s `%s`: %w", field, src, err)
		}
	}
	return &mapped{t, field}, nil
}

// looksInside tells whether the template needs the body.
func (m *mapped) looksInside() bool {
	return m != nil && slices.ContainsFunc(m.Placeholders(), func(name string) bool {
		return strings.HasPrefix(name, jsonPrefix) || strings.HasPrefix(name, formPrefix)
	})
}

func checkPlaceholder(name string) error {
	switch strings.TrimSuffix(name, ".") {
	case "json":
		return fmt.Errorf("{%s} names no field: write {json.PATH}, for example {json.order.id}", name)
	case "form":
		return fmt.Errorf("{%s} names no field: write {form.NAME}, for example {form.order_id}", name)
	}
	return nil
}

// errLookup ends an expansion; why is in the lookupError.
var errLookup = errors.New("placeholder gives no text")

// expand asks value what the placeholders come to. Its error ends the
// expansion.
func (m *mapped) expand(value func(name string) (string, *lookupError)) (string, *lookupError) {
	var failed *lookupError
	text, _ := m.Expand(func(name string) (text string, err error) {
		if text, failed = value(name); failed != nil {
			return "", errLookup
		}
		return text, nil
	})
	return text, failed
}
