package store_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/storetest"
)

func TestLazyImplementsStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return store.NewLazy(func() (store.Store, error) { return store.NewMemory(), nil })
	})
}

func TestLazyOpensOnce(t *testing.T) {
	var opened atomic.Int32
	l := store.NewLazy(func() (store.Store, error) {
		opened.Add(1)
		return store.NewMemory(), nil
	})
	if opened.Load() != 0 {
		t.Error("it was opened before it was used")
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { l.Epoch() })
		wg.Go(func() { _ = l.Open() })
	}
	wg.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("it was opened %d times", n)
	}
}

func TestClosedLazyIsNeverOpened(t *testing.T) {
	l := store.NewLazy(func() (store.Store, error) {
		t.Error("it was opened")
		return store.NewMemory(), nil
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l.Open() == nil {
		t.Error("it can be opened again")
	}
}

func TestLazyThatFailsToOpenRefusesAppends(t *testing.T) {
	failure := errors.New("no such disk")
	opened := 0
	l := store.NewLazy(func() (store.Store, error) {
		opened++
		return nil, failure
	})
	for range 2 {
		if err := l.Append([]*store.Entry{entry(1, "x", "a")}, nil); !errors.Is(err, failure) || !errors.Is(l.Open(), failure) {
			t.Error(err)
		}
	}
	if _, head := l.Range(); head != 0 || opened != 1 || l.Epoch() == "" {
		t.Errorf("it ends at %d, and was opened %d times", head, opened)
	}
	wantEntries(t, l, 0)
}
