package diff

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-sse/caddy-sse/event"
)

// Mode is a way to describe a change. It is safe for concurrent use.
type Mode struct {
	name     string
	argument string
	differ   differ
}

// differ returns the events that bring a client from one document to another,
// unequal one. It returns [errSnapshot] if a snapshot describes the change better.
type differ func(ctx context.Context, from, to *Document) ([]event.Event, error)

// noDocument is what a client has that has no document.
var noDocument = &Document{text: []byte("null")}

// errSnapshot is returned by a differ that can't describe the change, or not in
// less than a snapshot.
var errSnapshot = errors.New("the change needs a snapshot")

const usage = "full, patch, merge, items <key> or jq <program>"

// NewMode returns the mode of a name and its argument:
//
//	full          the whole document
//	patch         a JSON Patch (RFC 6902), event "patch"
//	merge         a JSON merge patch (RFC 7396), event "merge"
//	items <key>   items of a list, events "removed", "changed" and "added";
//	              key is the member that identifies an item, say id or meta.id
//	jq <program>  the program's outputs for {"old": …, "new": …}
//
// Its errors say what to write instead.
func NewMode(name, argument string) (*Mode, error) {
	differ, err := newDiffer(name, argument)
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	return &Mode{name, argument, differ}, nil
}

func newDiffer(name, argument string) (differ, error) {
	switch name {
	case "full", "patch", "merge":
		if argument != "" {
			return nil, fmt.Errorf("%q takes nothing after it, but there is %q", name, argument)
		}
		return map[string]differ{"full": fullDiffer, "patch": patchDiffer, "merge": mergeDiffer}[name], nil
	case "items":
		return newItemsDiffer(argument)
	case "jq":
		return newJQDiffer(argument)
	default:
		return nil, fmt.Errorf("unknown way %q; use %s", name, usage)
	}
}

// String returns the mode as it is configured.
func (m *Mode) String() string {
	if m.argument == "" {
		return m.name
	}
	return m.name + " " + m.argument
}

// Incremental reports whether an event makes sense only to a client that holds
// the document before it. Otherwise, a client that missed events needs only the
// last one.
func (m *Mode) Incremental() bool { return m.name != "full" }

// Events returns the events that bring a client from one document to another, in
// the order in which they must be sent. It returns none if the documents are
// equal, and a snapshot if from is nil, or if the mode can't describe the change
// or not in less bytes. The events have no ids. They share memory with the
// documents.
//
// Only the mode jq fails, and then nothing should be sent. A program that fails
// gives an error that wraps [jq.ErrFailed], an output that is no event one that
// wraps [ErrOutput], and a context that ends its cause.
func (m *Mode) Events(ctx context.Context, from, to *Document) ([]event.Event, error) {
	if from == nil {
		return []event.Event{to.Snapshot()}, nil
	}
	if from.Equal(to) {
		return nil, nil
	}
	events, err := m.differ(ctx, from, to)
	if errors.Is(err, errSnapshot) {
		return []event.Event{to.Snapshot()}, nil
	}
	return events, err
}

// First returns the events for a client that has no document: what the mode jq
// makes of {"old": null, "new": …}, and a snapshot in any other mode. It fails as
// [Mode.Events] does.
func (m *Mode) First(ctx context.Context, to *Document) ([]event.Event, error) {
	if m.name != "jq" {
		return []event.Event{to.Snapshot()}, nil
	}
	return m.differ(ctx, noDocument, to)
}

func fullDiffer(context.Context, *Document, *Document) ([]event.Event, error) {
	return nil, errSnapshot
}
