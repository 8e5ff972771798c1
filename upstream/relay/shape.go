package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/template"
	"github.com/caddy-sse/caddy-sse/jq"
)

// shape makes the events that viewers receive of those that the backend sends.
type shape struct {
	name               *template.Template // nil: the backend's
	selects, completes *jq.Program        // nil: none
}

func newShape(c *Config) (s *shape, err error) {
	s = new(shape)
	if s.selects, err = jq.CompileOptional(c.Select); err != nil {
		return nil, fmt.Errorf("select: %w", err)
	}
	if s.completes, err = jq.CompileOptional(c.Complete); err != nil {
		return nil, fmt.Errorf("complete: %w", err)
	}
	if c.Event == "" {
		return s, nil
	}
	if s.name, err = template.Compile(c.Event); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if err := checkPlaceholders("event", c.Event, s.name); err != nil {
		return nil, err
	}
	if len(s.name.Placeholders()) == 0 {
		if err := event.CheckName(c.Event); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// checkPlaceholders returns an error if an option's template has others than those of
// events.
func checkPlaceholders(option, src string, t *template.Template) error {
	for _, name := range t.Placeholders() {
		if path, ok := strings.CutPrefix(name, "json."); name != "event" && (!ok || path == "") {
			return fmt.Errorf("%s `%s`: {%s} is not available here: use {json.PATH}, which reads an event's data, or {event}, the backend's own name", option, src, name)
		}
	}
	return nil
}

// expand expands a template with the placeholders of an event.
func expand(t *template.Template, e event.Event) (string, error) {
	return t.Expand(func(placeholder string) (string, error) {
		if placeholder == "event" {
			return e.Name, nil
		}
		return template.JSONField(e.Data, placeholder)
	})
}

// apply returns the events that viewers receive for one of the backend's.
func (s *shape) apply(ctx context.Context, e event.Event) ([]event.Event, error) {
	shaped := event.Event{Name: s.nameOf(e), Data: e.Data}
	if s.selects == nil {
		return []event.Event{shaped}, nil
	}
	outputs, err := s.selects.Run(ctx, e.Data)
	if errors.Is(err, jq.ErrNotJSON) {
		return []event.Event{shaped}, nil
	}
	events := make([]event.Event, len(outputs))
	for i, data := range outputs {
		events[i] = event.Event{Name: shaped.Name, Data: data}
	}
	return events, err
}

// nameOf returns the name of an event: the backend's, if the template yields no
// valid one.
func (s *shape) nameOf(e event.Event) string {
	if s.name == nil {
		return e.Name
	}
	name, err := expand(s.name, e)
	if err != nil || event.CheckName(name) != nil {
		return e.Name
	}
	return name
}

// seen is what the program of `complete` gets.
type seen struct {
	Count   int             `json:"count"`
	Elapsed int64           `json:"elapsed"` // in milliseconds
	Event   string          `json:"event"`
	Last    json.RawMessage `json:"last"`
}

// add adds an event.
func (s *seen) add(e event.Event) {
	s.Count++
	s.Event = e.Name
	if s.Last = e.Data; !json.Valid(e.Data) {
		s.Last, _ = json.Marshal(string(e.Data)) // a string always marshals
	}
}

// complete returns the data of the event `complete`, and whether the program says
// that the events are complete.
func (s *shape) complete(ctx context.Context, was *seen, since time.Duration) (data []byte, ended bool, err error) {
	was.Elapsed = since.Milliseconds()
	if was.Last == nil {
		was.Last = json.RawMessage("null")
	}
	doc, err := json.Marshal(was)
	if err != nil {
		return nil, false, err
	}
	outputs, err := s.completes.Run(ctx, doc)
	if err != nil || len(outputs) == 0 {
		return nil, false, err
	}
	switch output := outputs[0]; {
	case bytes.Equal(output, []byte("null")), bytes.Equal(output, []byte("false")):
		return nil, false, nil
	case bytes.Equal(output, []byte("true")):
		return []byte("{}"), true, nil
	default:
		return output, true, nil
	}
}
