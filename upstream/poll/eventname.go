package poll

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// reservedNames are the names that say something else than that this is the document.
var reservedNames = []string{"reset", "stale", "gone", "complete", "patch", "merge", "added", "changed", "removed"}

// eventName is what events that hold whole documents are called.
type eventName struct {
	template *template.Template
}

// newEventName returns nil for an empty source.
func newEventName(src string) (*eventName, error) {
	if src == "" {
		return nil, nil
	}
	t, err := template.Compile(src)
	if err != nil {
		return nil, err
	}
	for _, name := range t.Placeholders() {
		if path, ok := strings.CutPrefix(name, "json."); !ok || path == "" {
			return nil, fmt.Errorf("`%s`: {%s} can't be used here: {json.PATH} looks into the document", src, name)
		}
	}
	if len(t.Placeholders()) == 0 {
		if err := checkEventName(src); err != nil {
			return nil, err
		}
	}
	return &eventName{t}, nil
}

func checkEventName(name string) error {
	if slices.Contains(reservedNames, name) {
		return fmt.Errorf("%q means something else here already: use another name", name)
	}
	return event.CheckName(name)
}

// expand is the name for a JSON document, empty for none.
func (n *eventName) expand(doc []byte) string {
	if n == nil {
		return ""
	}
	name, err := n.template.Expand(func(placeholder string) (string, error) {
		field := gjson.GetBytes(doc, strings.TrimPrefix(placeholder, "json."))
		if field.IsObject() || field.IsArray() || field.String() == "" {
			return "", fmt.Errorf("{%s} is no text", placeholder)
		}
		if field.Type == gjson.Number {
			return field.Raw, nil // with all its digits
		}
		return field.String(), nil
	})
	if err != nil || checkEventName(name) != nil {
		return ""
	}
	return name
}
