package caddysse

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func TestRefusalLogBoundsCountsAndRateLimitsEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRefusalLog()
		add := func(client string, kind webhook.Result) (since int, log bool) {
			return l.add(refusalEntry{Client: client, Kind: kind, Last: time.Now()})
		}
		if _, log := add("stripe", webhook.StaleTimestamp); !log {
			t.Error("the first isn't logged")
		}
		for range 1000 {
			if _, log := add("attacker", webhook.BadSignature); log && len(l.entries) > 2 {
				t.Error("it is logged again")
			}
		}
		if list := l.list(); len(list) != 2 || list[1].Count != 1000 || list[0].Client != "stripe" {
			t.Errorf("%+v", list)
		}
		time.Sleep(time.Minute)
		if since, log := add("attacker", webhook.BadSignature); !log || since != 999 {
			t.Errorf("after a minute: %v, %d", log, since)
		}
		for i := range 1000 {
			add(fmt.Sprint(i), webhook.BadSignature)
		}
		if list := l.list(); len(list) != maxRefusals || list[0].Client != "900" || list[maxRefusals-1].Client != "999" {
			t.Errorf("%d are kept", len(list))
		}
	})
}
