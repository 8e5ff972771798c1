package stream_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// discarding is a client that keeps only the sizes of the writes, and which of
// them has the bytes of the document itself.
type discarding struct {
	*client
	document *byte
	sizes    []int
	shared   int
}

func (d *discarding) Write(p []byte) (int, error) {
	d.sizes = append(d.sizes, len(p))
	if &p[0] == d.document {
		d.shared++
	}
	return len(p), nil
}

func TestLargeDocumentIsSentWithoutCopyAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		doc := &store.Entry{ID: "1", Frame: make(event.Frame, 1<<20)}
		copy(doc.Frame, "data: ")
		small := &store.Entry{ID: "2", Frame: event.Frame(bytes.Repeat([]byte(":\n"), 10))}
		kept := weak.Make(doc)
		c := &discarding{client: newClient(), document: &doc.Frame[0]}
		src := stream.Source{Cursor: h.Subscribe([]string{"t"}), Initial: []*store.Entry{doc, small}}
		doc = nil
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			stream.Serve(c, get("/").WithContext(ctx), src, nil, &stream.Options{Heartbeat: 1 << 40})
		}()
		synctest.Wait()
		runtime.GC()
		if kept.Value() != nil {
			t.Error("the open stream keeps the document")
		}
		if len(c.sizes) != 3 || c.sizes[1] != 1<<20 || c.shared != 1 {
			t.Errorf("writes of %v bytes, %d of them of the document itself", c.sizes, c.shared)
		}
		cancel()
		<-done
	})
}
