package poll

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/template"
	"github.com/caddy-sse/caddy-sse/stream"
)

// eventName is the template of the name of events that hold whole documents.
type eventName struct {
	template *template.Template
}

// newEventName compiles a template. It returns nil if src is empty.
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
			return nil, fmt.Errorf("`%s`: {%s} is not available here: use {json.PATH}, which reads the document", src, name)
		}
	}
	if len(t.Placeholders()) == 0 {
		if err := checkEventName(src); err != nil {
			return nil, err
		}
	}
	return &eventName{t}, nil
}

// checkEventName returns an error if a document's event must not have that name.
func checkEventName(name string) error {
	if slices.Contains(stream.ReservedNames, name) {
		return fmt.Errorf("%q is the name of another event: use another name", name)
	}
	return event.CheckName(name)
}

// expand returns the name for a JSON document, or "" if the template yields no
// valid name. doc is nil for a document that is no JSON.
func (n *eventName) expand(doc []byte) string {
	if n == nil {
		return ""
	}
	name, err := n.template.Expand(func(placeholder string) (string, error) { return template.JSONField(doc, placeholder) })
	if err != nil || checkEventName(name) != nil {
		return ""
	}
	return name
}
