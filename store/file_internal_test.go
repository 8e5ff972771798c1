package store

import (
	"testing"
	"time"
)

func openTestFile(t *testing.T) *File {
	t.Helper()
	f, err := OpenFile(t.TempDir()+"/log", FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// The next append removes what has left the log at no extra cost.
func TestTrimAfterAppendWritesNothing(t *testing.T) {
	f := openTestFile(t)
	now := time.Unix(1000, 0)
	for seq := range uint64(3) {
		if err := f.Append([]*Entry{{Seq: seq + 1, Time: now, Topics: []string{"a"}, Frame: []byte("data: x\n\n")}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	trim := func(after time.Duration) (transactions uint64) {
		before := f.db.meta.tx
		if err := f.Trim(History{MaxEvents: 1}, now.Add(after)); err != nil {
			t.Fatal(err)
		}
		return f.db.meta.tx - before
	}
	for _, step := range []struct {
		after time.Duration
		want  uint64
	}{{0, 0}, {time.Second, 1}, {time.Minute, 0}} {
		if n := trim(step.after); n != step.want {
			t.Errorf("%v after the append, Trim made %d transactions, want %d", step.after, n, step.want)
		}
	}
}

func TestErrorOfClosingTheFileIsReturned(t *testing.T) {
	f := openTestFile(t)
	if err := f.db.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err == nil {
		t.Error("a file that can't be closed was closed")
	}
}
