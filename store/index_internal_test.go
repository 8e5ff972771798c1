package store

import "testing"

func TestEntriesWithinTheLimitStayInMemory(t *testing.T) {
	x := newIndex()
	for seq := range uint64(4) {
		x.add(&Entry{Seq: seq + 1, Frame: make([]byte, 100)})
	}
	for _, limit := range []struct {
		bytes int64
		want  int
	}{{x.entriesBytes, 4}, {x.entriesBytes - 1, 3}, {0, 1}} {
		if x.limitCache(limit.bytes); len(x.entries) != limit.want || x.len() != 4 {
			t.Errorf("%d of %d entries are in memory, want %d", len(x.entries), x.len(), limit.want)
		}
	}
}
