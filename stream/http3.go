package stream

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// HTTP3 returns the stream of an HTTP/3 response, if a stream can take it over:
// the server's writer, below those of other handlers, is quic-go's. Otherwise it
// returns nil.
func HTTP3(w http.ResponseWriter) Connection {
	if streamer, ok := innermost(w).(http3.HTTPStreamer); ok {
		return http3Connection{streamer}
	}
	return nil
}

type http3Connection struct{ http3.HTTPStreamer }

func (c http3Connection) takeOver(*response, *http.Request) (link, error) {
	s := c.HTTPStream()
	_ = s.SetWriteDeadline(time.Time{}) // the server's, for the whole response
	return &http3Link{stream: s, quic: s.QUICStream()}, nil
}

// maxQueued is how many bytes wait in quic-go for their packets before a stream
// waits for them. quic-go itself has no limit but the one that the client sets, and
// copies all that still waits whenever it fills a packet.
const maxQueued = 8 << 10

// http3Link is the stream of an HTTP/3 response.
type http3Link struct {
	stream    *http3.Stream
	quic      *quic.Stream // of stream, without its framing
	taken     *taken
	stopWatch func() bool

	queued int // bytes since the last write that has waited for its packets

	// A write that must wait has a goroutine.
	begun bool
	done  atomic.Bool // its result is set
	n     int
	err   error
}

func (l *http3Link) watch(t *taken) error {
	l.taken = t
	l.stopWatch = context.AfterFunc(l.stream.Context(), t.wakeForInput)
	return nil
}

func (l *http3Link) frame(b *body) []byte { return b.asData() }

func (l *http3Link) write(b []byte) (int, error) {
	if l.begun {
		if !l.done.Load() {
			return 0, nil
		}
		l.begun, l.queued = false, 0
		l.done.Store(false)
		return l.n, l.err
	}
	if l.queued+len(b) <= maxQueued {
		err := l.quic.TryWriteAll(b)
		if err == nil {
			l.queued += len(b)
			return len(b), nil
		}
		if !errors.Is(err, quic.ErrWouldBlock) {
			return 0, err
		}
	}
	l.begun = true
	go func() {
		l.n, l.err = l.quic.Write(b)
		l.done.Store(true)
		l.taken.wake()
	}()
	return 0, nil
}

func (l *http3Link) hasLeft() bool { return l.stream.Context().Err() != nil }

func (l *http3Link) close(_ int64, isCut bool) {
	l.stopWatch()
	if isCut {
		l.stream.CancelWrite(quic.StreamErrorCode(http3.ErrCodeInternalError))
	}
	// A client that has sent its request needn't send more.
	l.stream.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	if !isCut {
		_ = l.stream.Close() // it can't fail
	}
}
