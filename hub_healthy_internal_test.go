package caddysse

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// fullStore is a store that refuses all events.
type fullStore struct{ *store.Memory }

func (fullStore) Append([]*store.Entry, []store.IdempotencyRecord) error {
	return errors.New("no space left")
}

// A load balancer sends no requests to a failing server, so that its hub could
// never recover otherwise.
func TestFailedHubMatchesHealthyAgainAfterFailureTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := store.NewLazy(func() (store.Store, error) { return fullStore{store.NewMemory()}, nil })
		shared := newSharedHub(log, "", store.History{})
		defer shared.Close()
		m := &MatchHealthy{hubs: []*sharedHub{shared}}
		for _, step := range []struct {
			publish bool
			wait    time.Duration
			want    bool
		}{{false, 0, true}, {true, 0, false}, {false, 29 * time.Second, false}, {true, 29 * time.Second, false}, {false, 2 * time.Second, true}, {true, 0, false}} {
			if step.publish {
				if _, _, err := shared.Publish([]string{"a"}, event.Event{}); err == nil {
					t.Fatal("it was published")
				}
			}
			time.Sleep(step.wait)
			if got, err := m.MatchWithError(nil); got != step.want || err != nil {
				t.Errorf("after %+v: %t, %v", step, got, err)
			}
		}
	})
}
