package diff

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-sse/caddy-sse/event"
)

// Mode is a way to say what has changed. It is safe for concurrent use.
type Mode struct {
	word string
	arg  string
	diff differ
}

// differ makes the events that bring a client from one document to another
// which is not equal to it. It returns [errWhole] if it can't, or not well.
type differ func(ctx context.Context, from, to *Document) ([]event.Event, error)

// errWhole tells that only the whole document says what has changed.
var errWhole = errors.New("the change can't be said in this way")

// usage is what an administrator may write.
const usage = "full, patch, merge, items <key> or jq <program>"

// NewMode returns the mode that a word and what follows it stand for:
//
//	full          the whole document
//	patch         a JSON Patch (RFC 6902), event "patch"
//	merge         a JSON merge patch (RFC 7396), event "merge"
//	items <key>   items of a list, events "removed", "changed" and "added";
//	              key is the member that tells them apart, say id or meta.id
//	jq <program>  what a program makes of {"old": …, "new": …}
//
// Its errors say what to write instead.
func NewMode(word, arg string) (*Mode, error) {
	diff, err := newDiffer(word, arg)
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	return &Mode{word, arg, diff}, nil
}

func newDiffer(word, arg string) (differ, error) {
	switch word {
	case "full", "patch", "merge":
		if arg != "" {
			return nil, fmt.Errorf("%q takes nothing after it, but there is %q", word, arg)
		}
		return map[string]differ{"full": wholeDiff, "patch": patchDiff, "merge": mergeDiff}[word], nil
	case "items":
		return newItemsDiff(arg)
	case "jq":
		return newJQDiff(arg)
	default:
		return nil, fmt.Errorf("unknown way %q; use %s", word, usage)
	}
}

// String is the mode as it is written.
func (m *Mode) String() string {
	if m.arg == "" {
		return m.word
	}
	return m.word + " " + m.arg
}

// Incremental tells whether an event makes sense only to a client that has the
// document from before it. If not, a client that has missed events needs the
// last one only.
func (m *Mode) Incremental() bool { return m.word != "full" }

// Events returns what brings a client that has the old document to the new one,
// in the order in which it must be sent: nothing if they are equal, and the
// whole document if old is nil or the mode can't say the change or wouldn't be
// shorter. The events have no ids, and share memory with the documents.
//
// It fails only for jq, and then nothing should be sent: the error of a program
// that failed wraps [jq.ErrFailed], that of one which gave what is no event
// [ErrOutput], and that of a context which ended its cause.
func (m *Mode) Events(ctx context.Context, from, to *Document) ([]event.Event, error) {
	if from == nil {
		return []event.Event{to.Snapshot()}, nil
	}
	if from.Equal(to) {
		return nil, nil
	}
	events, err := m.diff(ctx, from, to)
	if errors.Is(err, errWhole) {
		return []event.Event{to.Snapshot()}, nil
	}
	return events, err
}

func wholeDiff(context.Context, *Document, *Document) ([]event.Event, error) {
	return nil, errWhole
}
