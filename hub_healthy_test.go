package caddysse_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/store"
)

// healthDirectives are the directives that the documentation recommends.
const healthDirectives = `
	@failing not sse_healthy %s
	handle /healthz {
		respond @failing 503
		respond 200
	}
`

func TestHealthyMatchesOnlyWhileHubCanStore(t *testing.T) {
	broken, well := newHubName(), newHubName()
	global := "sse " + broken + " {\n store fragile\n }\n sse " + well
	hooks := "sse /hooks/* {\n hub " + broken + "\n webhook {\n verify none\n }\n }\n"
	defer fragile.Store(false)
	for _, c := range []struct {
		counts string
		want   int
	}{{"", 503}, {well, 200}, {well + " " + broken, 503}} {
		t.Run("of "+c.counts, func(t *testing.T) {
			s := startSite(t, global, hooks+fmt.Sprintf(healthDirectives, c.counts))
			for _, isBroken := range []bool{false, true, false} {
				fragile.Store(isBroken)
				for _, protocol := range protocols {
					stored, want := http.StatusAccepted, http.StatusOK
					if isBroken {
						stored, want = http.StatusServiceUnavailable, c.want
					}
					if resp := s.doOver(protocol, "POST", "/hooks/a", "x"); resp.StatusCode != stored {
						t.Fatalf("the event is answered with %s", resp.Status)
					}
					if resp := s.doOver(protocol, "GET", "/healthz", ""); resp.StatusCode != want || resp.body != "" {
						t.Errorf("%s, of %q: %s %q, want %d", protocol, c.counts, resp.Status, resp.body, want)
					}
				}
			}
		})
	}
}

func TestHealthyRefusesUnknownHub(t *testing.T) {
	s := startSite(t, "", fmt.Sprintf(healthDirectives, ""))
	if err := s.load("", fmt.Sprintf(healthDirectives, "nowhere")); err == nil || !strings.Contains(err.Error(), "add `sse nowhere` to the global options") {
		t.Errorf("of a hub that isn't there it is said: %v", err)
	}
}

func init() { caddy.RegisterModule(failingStore{}) }

// failingStore opens stores in memory that refuse all events while fragile is
// set.
type failingStore struct{}

var fragile atomic.Bool

func (failingStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse.stores.fragile", New: func() caddy.Module { return new(failingStore) }}
}

func (*failingStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { d.Next(); return nil }

func (failingStore) OpenStore(string) (store.Store, error) { return fragileLog{store.NewMemory()}, nil }

type fragileLog struct{ *store.Memory }

func (l fragileLog) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	if fragile.Load() {
		return errors.New("no space left")
	}
	return l.Memory.Append(entries, records)
}
