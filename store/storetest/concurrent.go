package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-sse/caddy-sse/store"
)

// concurrent checks what readers see while the log is appended to and trimmed.
func concurrent(t *testing.T, s store.Store) {
	const batches, perBatch, kept = 300, 4, 64
	l := &log{TB: t, Store: s}
	var readers sync.WaitGroup
	done := make(chan struct{})
	for _, topics := range [][]string{{"a"}, {"a", "b"}, {"b", "c", "all"}} {
		readers.Go(func() {
			if err := follow(s, topics, perBatch, done); err != nil {
				t.Errorf("%q: %v", topics, err)
			}
		})
	}
	for range batches {
		batch := []*store.Entry{l.entry("1", "a", "all"), l.entry("2", "b", "all"), l.given(fmt.Sprint("g", l.head), "3", "a", "b", "all"), l.entry("4", "all")}
		l.append(batch...)
		l.trim(store.History{MaxEvents: kept}, 0)
	}
	close(done)
	readers.Wait()
	l.wantRange(batches*perBatch-kept+1, batches*perBatch)
}

// follow reads like a hub's cursor while a writer appends.
func follow(s store.Store, topics []string, perBatch int, done <-chan struct{}) error {
	var pos uint64
	for last := false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		b, err := s.Read(topics, pos, 300, nil)
		if err != nil {
			return err
		}
		if err := checkBatch(b, topics, pos, perBatch); err != nil {
			return err
		}
		pos = b.UpTo
		for _, t := range topics {
			if e := s.Last(t); e != nil && !e.On(t) {
				return fmt.Errorf("the last on %s is on %q", t, e.Topics)
			}
		}
		if tail, head := s.Range(); tail > head+1 || head < pos {
			return fmt.Errorf("the log is %d to %d, and was read up to %d", tail, head, pos)
		}
		if last && !b.More {
			return nil
		}
	}
}

func checkBatch(b store.Batch, topics []string, after uint64, perBatch int) error {
	if !b.More && b.UpTo%uint64(perBatch) != 0 {
		return fmt.Errorf("only a part of a batch is visible, up to %d", b.UpTo)
	}
	for _, e := range b.Entries {
		switch {
		case e.Seq <= after || e.Seq > b.UpTo || e.Seq < b.Tail:
			return fmt.Errorf("%d is out of order after %d (tail %d, up to %d)", e.Seq, after, b.Tail, b.UpTo)
		case !slices.ContainsFunc(topics, e.On):
			return fmt.Errorf("%d is on %q", e.Seq, e.Topics)
		}
		after = e.Seq
	}
	return nil
}
