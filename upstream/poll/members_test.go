package poll

import (
	"fmt"
	"testing"
	"time"
)

// Anyone who may see a shared document can come and go under any number of names.
func TestNotManyAreRememberedOfThoseWhoHaveLeft(t *testing.T) {
	now := time.Now()
	m := newMembers(&asker{id: "first"})
	come := func(name string) *member { return m.enter(&asker{id: name}, 7, now) }
	stays := come("stays")
	for i := range 5 * maxAbsent {
		m.leave(come(fmt.Sprint(i)), now)
	}
	if len(m.left) > maxAbsent+2 {
		t.Errorf("%d are remembered, want %d at most", len(m.left), maxAbsent+2)
	}
	if back := m.enter(&asker{id: "0"}, 9, now); back.since != 7 {
		t.Errorf("who is remembered has what was published since %d, want 7", back.since)
	}
	if back := m.enter(&asker{id: fmt.Sprint(5*maxAbsent - 1)}, 9, now); back.since != 9 {
		t.Errorf("who isn't remembered has what was published since %d, want 9", back.since)
	}
	now = now.Add(absence + time.Second)
	m.leave(stays, now)
	if len(m.left) != 1 {
		t.Errorf("%d are remembered who left long ago", len(m.left)-1)
	}
}
