package webhook

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// fieldTemplate is a template for one field of an event.
type fieldTemplate struct {
	*template.Template
	// field is the name of the field in errors, for example "topic".
	field string
}

// optionalTemplate is a template for a field that an event can go without. Its
// fieldTemplate may be nil.
type optionalTemplate struct {
	*fieldTemplate
	// lenient means that the template comes from the sender's row and not from
	// the rule: a body that doesn't fit it leaves the field empty.
	lenient bool
}

const (
	jsonPrefix = "json."
	formPrefix = "form."
)

// compileTemplate returns nil for an empty source.
func compileTemplate(field, src string) (*fieldTemplate, error) {
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
	return &fieldTemplate{t, field}, nil
}

// compileOptional compiles the rule's template, or else the sender's.
func compileOptional(field, src, senders string) (optionalTemplate, error) {
	lenient := src == ""
	if lenient {
		src = senders
	}
	t, err := compileTemplate(field, src)
	return optionalTemplate{t, lenient}, err
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

// usesBody reports whether the template has a placeholder that reads the body.
func (t *fieldTemplate) usesBody() bool {
	return t != nil && slices.ContainsFunc(t.Placeholders(), func(name string) bool {
		return strings.HasPrefix(name, jsonPrefix) || strings.HasPrefix(name, formPrefix)
	})
}

// isSigned reports whether the template reads only what proves the request: the
// body, which holds the secret or is sent with it, and the headers that the
// signature covers. There is no scheme if the sender doesn't sign requests.
func (t optionalTemplate) isSigned(s *scheme) bool {
	return t.fieldTemplate == nil || !slices.ContainsFunc(t.Placeholders(), func(name string) bool {
		if strings.HasPrefix(name, jsonPrefix) || strings.HasPrefix(name, formPrefix) {
			return false
		}
		header, ok := strings.CutPrefix(name, "http.request.header.")
		return !ok || s == nil || !s.signsHeader(header)
	})
}

// errLookup ends an expansion; the lookupError says more.
var errLookup = errors.New("placeholder gives no text")

// expand replaces each placeholder by what value returns. An error of value ends
// the expansion.
func (t *fieldTemplate) expand(value func(name string) (string, *lookupError)) (string, *lookupError) {
	var failed *lookupError
	text, _ := t.Expand(func(name string) (text string, err error) {
		if text, failed = value(name); failed != nil {
			return "", errLookup
		}
		return text, nil
	})
	return text, failed
}

// expand returns an empty text if something in the template is missing.
func (t optionalTemplate) expand(p *part) (string, *refusal.Error) {
	if t.fieldTemplate == nil {
		return "", nil
	}
	text, err := t.fieldTemplate.expand(p.value)
	if err == nil {
		return text, nil
	}
	if err.missing || t.lenient {
		return "", nil
	}
	return "", err.refuse(t.field)
}
