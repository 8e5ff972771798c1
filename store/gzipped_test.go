package store_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

func TestReadersShareCompressedFrame(t *testing.T) {
	e := &store.Entry{Frame: event.Frame("data: " + strings.Repeat("x", 1000) + "\n\n")}
	first := e.Gzipped()
	if first == nil || len(first.Bytes()) > 100 {
		t.Fatalf("got %v", first)
	}
	var readers sync.WaitGroup
	for range 10 {
		readers.Go(func() {
			if e.Gzipped() != first {
				t.Error("the frame was compressed again")
			}
		})
	}
	readers.Wait()
	short := &store.Entry{Frame: event.Frame("data: x\n\n")}
	if short.Gzipped() != nil || testing.AllocsPerRun(10, func() { short.Gzipped() }) != 0 {
		t.Error("a short frame is compressed")
	}
}

// TestEntryThatIsOnlyInFileIsNotCompressed: a client can have it read again and again.
func TestEntryThatIsOnlyInFileIsNotCompressed(t *testing.T) {
	const entries = 20
	f := openFile(t, pathOf(t))
	fill(t, f, 1, entries, strings.Repeat("x", 1<<20))
	if f.Entry(1).Gzipped() != nil {
		t.Error("the oldest entry is compressed")
	}
	if f.Entry(entries).Gzipped() == nil {
		t.Error("the newest entry isn't compressed")
	}
}
