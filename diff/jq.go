package diff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/jq"
)

// ErrOutput is wrapped by the error of a jq program's output that is no event.
var ErrOutput = errors.New("jq program gave what is no event")

// newJQDiffer returns a differ that runs a program on {old, new}. Each output is
// an event: {event: "stock-change", data: …}.
func newJQDiffer(src string) (differ, error) {
	if src == "" {
		return nil, errors.New("\"jq\" needs a program that makes events of {old, new}, say: jq `{event: \"total\", data: .new.total}`")
	}
	program, err := jq.Compile(src)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, from, to *Document) ([]event.Event, error) {
		outputs, err := program.Run(ctx, oldAndNew(from, to))
		if err != nil {
			return nil, fmt.Errorf("send jq: %w", err)
		}
		return outputEvents(outputs)
	}, nil
}

func oldAndNew(from, to *Document) []byte {
	const members = len(`{"old":,"new":}`)
	doc := make([]byte, 0, members+len(from.text)+len(to.text))
	doc = append(append(doc, `{"old":`...), from.text...)
	doc = append(append(doc, `,"new":`...), to.text...)
	return append(doc, '}')
}

func outputEvents(outputs [][]byte) ([]event.Event, error) {
	var events []event.Event
	for i, output := range outputs {
		e, err := outputEvent(output)
		if err != nil {
			return nil, fmt.Errorf("send jq: %w: output %d is %s: %w", ErrOutput, i+1, truncate(output), err)
		}
		events = append(events, e)
	}
	return events, nil
}

func outputEvent(output []byte) (event.Event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(output, &members); err != nil || members == nil {
		return event.Event{}, errors.New(`want an object like {event: "name", data: …}`)
	}
	data, ok := members["data"]
	if !ok {
		return event.Event{}, errors.New("it has no data")
	}
	for name := range members {
		if name != "event" && name != "data" {
			return event.Event{}, fmt.Errorf("it may have event and data, but not %q", name)
		}
	}
	name, err := eventName(members["event"])
	return event.Event{Name: name, Data: data}, err
}

// eventName returns an empty name for an unnamed event.
func eventName(text json.RawMessage) (string, error) {
	if text == nil {
		return "", nil
	}
	var name any
	if err := json.Unmarshal(text, &name); err != nil {
		return "", err
	}
	s, ok := name.(string)
	if !ok {
		return "", fmt.Errorf("its event is %s; want a string", truncate(text))
	}
	if s == "" {
		return "", nil
	}
	return s, event.CheckName(s)
}

// truncate shortens a text for an error message.
func truncate(text []byte) string {
	const limit = 100
	if len(text) <= limit {
		return string(text)
	}
	return fmt.Sprintf("%.*s…", limit, text)
}
