package poll_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// Clients come and leave at random moments: before the first poll, while the
// backend authorizes them, before their stream begins, and while it is open. Some
// responses separate them again, refuse them, fail or take too long. After the last
// client has left, the views end by themselves.
func TestModelNoViewOutlivesItsClients(t *testing.T) {
	for i := range 60 {
		for _, share := range []string{"", "checked", "unchecked"} {
			for _, linger := range []caddy.Duration{-1, 2 * second} {
				seed := rand.Uint64()
				config := poll.Config{Interval: second, Timeout: 3 * second, Linger: linger, Share: share, MaxInFlight: 1 + i%4, MaxViewsPerClient: 100}
				synctest.Test(t, func(t *testing.T) {
					m := &crowd{env: newEnv(t, config, store.NewMemory()), random: rand.New(rand.NewPCG(seed, 0))}
					m.setFunc(m.answer)
					m.comeAndLeave(40)
					advance(10 * time.Second) // timeout, linger
					if m.Views() > 0 || m.Workers() > 0 || m.hub.Stats().Subscribers > 0 {
						t.Errorf("seed %d, share %q, linger %v: %d views, %d workers and %d subscribers are left",
							seed, share, time.Duration(linger), m.Views(), m.Workers(), m.hub.Stats().Subscribers)
					}
					m.end()
				})
			}
		}
	}
}

// crowd is clients, and a backend that gives random responses.
type crowd struct {
	*env
	mu     sync.Mutex
	random *rand.Rand
}

func (m *crowd) intN(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

func (m *crowd) duration(limit time.Duration) time.Duration { return time.Duration(m.intN(int(limit))) }

func (m *crowd) answer(r *http.Request) (*subrequest.Response, error) {
	if m.intN(2) == 0 {
		limit := 300 * time.Millisecond
		if m.intN(10) == 0 {
			limit = 6 * time.Second
		}
		select {
		case <-time.After(m.duration(limit)):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
	switch m.intN(15) {
	case 0:
		return status(http.StatusForbidden), nil
	case 1:
		return status(http.StatusNotFound), nil
	case 2:
		return status(http.StatusServiceUnavailable), nil
	case 3:
		return nil, errors.New("no connection")
	case 4:
		return document("1", "Vary", "Cookie"), nil
	case 5:
		return document("1", "Vary", "Accept-Language"), nil
	case 6:
		return nil, subrequest.ErrTooLarge
	default:
		return document(fmt.Sprint(m.intN(3)), "Cache-Control", []string{"public", "private"}[m.intN(8)/7]), nil
	}
}

// comeAndLeave has clients come, and waits until all have left.
func (m *crowd) comeAndLeave(clients int) {
	var here sync.WaitGroup
	for range clients {
		here.Go(func() {
			time.Sleep(m.duration(8 * time.Second))
			m.visit()
		})
	}
	here.Go(func() {
		for range 10 {
			time.Sleep(m.duration(time.Second))
			m.Invalidate("example.com", fmt.Sprint("/doc/", m.intN(3)))
		}
	})
	here.Wait()
}

func (m *crowd) visit() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stays := m.duration([]time.Duration{time.Millisecond, time.Second, 4 * time.Second}[m.intN(3)])
	time.AfterFunc(stays, cancel)
	r := newRequest(fmt.Sprint("http://example.com/doc/", m.intN(3)), "Cookie", fmt.Sprint("user=", m.intN(4)), "Accept-Language", []string{"en", "de"}[m.intN(2)])
	viewing, _, err := m.Subscribe(r.WithContext(ctx), &caller{backend: m.backend, client: fmt.Sprint(m.intN(3))})
	if viewing == nil || err != nil {
		return
	}
	defer viewing.Close()
	if ctx.Err() != nil {
		return // before its stream begins
	}
	src := viewing.Source("")
	defer src.Cursor.Close()
	for {
		select {
		case <-src.Cursor.Ready():
			_, _ = src.Cursor.Next(1000, nil)
		case <-src.Revoked.Done():
			return
		case <-src.Moved.Done():
			return
		case <-src.Done.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}
