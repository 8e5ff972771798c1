package poll

import (
	"fmt"
	"testing"
	"time"
)

// A viewer of a shared document can join and leave as any number of principals.
func TestDisconnectedViewersAreBounded(t *testing.T) {
	now := time.Now()
	m := newViewers(&principal{id: "first"})
	come := func(name string) *viewer { return m.add(&principal{id: name}, 7, now) }
	stays := come("stays")
	for i := range 5 * maxDisconnected {
		m.removeStream(come(fmt.Sprint(i)), now)
	}
	if len(m.disconnected) > maxDisconnected+2 {
		t.Errorf("%d are remembered, want %d at most", len(m.disconnected), maxDisconnected+2)
	}
	if back := m.add(&principal{id: "0"}, 9, now); back.since != 7 {
		t.Errorf("who is remembered has what was published since %d, want 7", back.since)
	}
	if back := m.add(&principal{id: fmt.Sprint(5*maxDisconnected - 1)}, 9, now); back.since != 9 {
		t.Errorf("who isn't remembered has what was published since %d, want 9", back.since)
	}
	now = now.Add(disconnectedFor + time.Second)
	m.removeStream(stays, now)
	if len(m.disconnected) != 1 {
		t.Errorf("%d are remembered who left long ago", len(m.disconnected)-1)
	}
}
