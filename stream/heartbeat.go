package stream

import (
	"fmt"
	"slices"

	"github.com/caddy-sse/caddy-sse/event"
)

// ReservedNames are the names of events that the module itself sends.
var ReservedNames = []string{"reset", "stale", "gone", "complete", "patch", "merge", "added", "changed", "removed", "shutdown", "refused", "fresh"}

// HeartbeatEvent returns the event with which a page can see that its stream is
// alive. It has no id, so that the client keeps its position. It fails if the name
// is not valid, or if clients take an event of that name for another one.
func HeartbeatEvent(name string) (event.Frame, error) {
	if err := event.CheckName(name); err != nil {
		return nil, err
	}
	if name == "message" || slices.Contains(ReservedNames, name) {
		return nil, fmt.Errorf("%q is the name of another event: use another name, such as ping", name)
	}
	return event.Event{Name: name, Data: []byte("{}")}.Encode()
}
