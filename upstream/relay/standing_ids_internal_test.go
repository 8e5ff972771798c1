package relay

import (
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// FuzzIDs makes ids of a feed's own: each is valid, and tells the feed's own again if
// that is short.
func FuzzIDs(f *testing.F) {
	h := hub.New(store.NewMemory(), store.History{})
	n := newIDs(h, "12345678")
	for _, own := range []string{"1", "a+b c", "=", "é\x01", "+1", "%20", strings.Repeat("x", 37)} {
		f.Add(own, 1)
	}
	f.Fuzz(func(t *testing.T, own string, output int) {
		for _, id := range []string{n.of(own, 0), n.of(own, max(output, 0)%1000000), n.another(own)} {
			if err := event.CheckID(id); err != nil {
				t.Errorf("%q: %v", own, err)
			}
			if got := n.original(id); got != own && (got != "" || len(own) <= maxOwnID/3) {
				t.Errorf("%q: %q from %q", own, got, id)
			}
		}
		if n.original("12345678."+own) != "" {
			t.Errorf("%q: another id is taken for one of the feed", own)
		}
	})
}
