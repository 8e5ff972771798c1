package stream

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
)

// slowLink takes a second to watch its connection. Meanwhile something happens.
type slowLink struct {
	meanwhile       func()
	watched, closed bool
	tooEarly        []string // calls before watch has returned
}

func (l *slowLink) takeOver(*response, *http.Request) (link, error) { return l, nil }

func (l *slowLink) watch(*taken) error {
	l.meanwhile()
	time.Sleep(time.Second)
	l.watched = true
	return nil
}

func (l *slowLink) called(name string) {
	if !l.watched {
		l.tooEarly = append(l.tooEarly, name)
	}
}

func (l *slowLink) frame(b *body) []byte { return b.payload }

func (l *slowLink) write(b []byte) (int, error) {
	l.called("write")
	return len(b), nil
}

func (l *slowLink) hasLeft() bool {
	l.called("hasLeft")
	return true
}

func (l *slowLink) close(int64, bool) {
	l.called("close")
	l.closed = true
}

// A stream can end at any moment. Before its link watches the connection,
// it must not close it: the link would watch the next connection with the same
// descriptor.
func TestStreamThatEndsAsItIsTakenOverIsClosedAfterwards(t *testing.T) {
	for name, end := range map[string]func(s *Stream, src *Source){
		"the client leaves":   func(s *Stream, _ *Source) { s.leave() },
		"the stream is moved": func(s *Stream, _ *Source) { s.group.Exit() },
		"the source ends":     func(_ *Stream, src *Source) { src.Done.Set() },
		"access is revoked":   func(_ *Stream, src *Source) { src.Revoked.Set() },
		"a write fails":       func(s *Stream, _ *Source) { s.Abort() },
	} {
		synctest.Test(t, func(t *testing.T) {
			h := hub.New(store.NewMemory(), store.History{})
			defer h.Close()
			src := Source{Cursor: h.Subscribe([]string{"a"}), Done: new(signal.Signal), Revoked: new(signal.Signal)}
			request, writer := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
			s := Prepare(writer, request, src, nil, &Options{Heartbeat: DefaultHeartbeat, WriteTimeout: time.Second})
			l := new(slowLink)
			l.meanwhile = func() { end(s, &src) }
			var ended, closed int
			s.Run(request, l, func(Summary) { ended++ }, func() { closed++ })
			synctest.Wait()
			if len(l.tooEarly) > 0 {
				t.Errorf("%s: before the connection is watched there are calls of %q", name, l.tooEarly)
			}
			if !l.closed || ended != 1 || closed != 1 || len(h.Topics()) > 0 {
				t.Errorf("%s: the connection is closed: %v; ended %d and closed %d times; subscribers: %v", name, l.closed, ended, closed, h.Topics())
			}
		})
	}
}
