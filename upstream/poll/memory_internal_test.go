package poll

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/semaphore"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

func TestFewLargeDocumentsAreWorkedOnAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxBody = 1 << 20
		p := &Poller{config: &Config{MaxBody: maxBody}, work: semaphore.NewWeighted(2 * maxBody)}
		working := make(chan error, 10)
		begin := func(size int) *pollLoop {
			l := &pollLoop{view: &view{poller: p}, phase: polling}
			go func() { working <- l.beginWork(&subrequest.Response{Body: make([]byte, size)}) }()
			synctest.Wait()
			return l
		}
		want := func(n int) {
			t.Helper()
			synctest.Wait()
			if len(working) != n {
				t.Fatalf("%d documents are worked on, want %d", len(working), n)
			}
		}
		first, second := begin(maxBody), begin(maxBody/2)
		third := begin(maxBody / 2)
		want(3)
		begin(maxBody / 2)
		want(3)
		begin(smallDocument - 1)
		want(4) // which doesn't wait
		first.endWork()
		first.endWork() // twice gives back once
		want(5)
		second.endWork()
		begin(maxBody)
		want(6)
		last := begin(maxBody)
		third.endWork()
		want(6)
		last.end()
		want(7)
		for range 6 {
			if err := <-working; err != nil {
				t.Error(err)
			}
		}
		if err := <-working; !errors.Is(err, context.Canceled) {
			t.Errorf("a view that has ended works: %v", err)
		}
	})
}

// Memory returns how many bytes count for max_memory, and how many the views keep
// of their documents.
func (p *Poller) Memory() (counted, kept int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.views {
		v.state.mu.Lock()
		s := &v.state
		if p.config.isShaped() {
			kept += int64(len(s.doc.text))
			for _, e := range s.first {
				kept += int64(len(e.Frame))
			}
			v.state.mu.Unlock()
			continue
		}
		frame, text := s.first[0].Frame, s.doc.text
		kept += int64(len(frame))
		if s.doc.json != nil && &s.doc.json.Bytes()[0] != &text[0] {
			kept += int64(len(text))
		}
		if at := bytes.Index(frame, text); at < 0 || &frame[at] != &text[0] {
			kept += int64(len(text))
		}
		if s.cached != nil && &s.cached.body[0] != &text[0] {
			kept += int64(len(s.cached.body))
		}
		v.state.mu.Unlock()
	}
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	return p.memory.used, kept
}
