package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	caddysse "github.com/caddy-sse/caddy-sse"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// A store may hold deliveries whose queue has the name that another version of
// the module gave it.
func TestDeliveriesInAQueueOfAnotherVersionReachTheApp(t *testing.T) {
	a, address := startApp(t)
	name := newHubName()
	global := "sse " + name + " {\n store file " + t.TempDir() + "\n drain 50ms\n }"
	config := fmt.Sprintf(forwardAsyncSite, name, address)
	s := startSite(t, global, "sse /events {\n hub "+name+"\n topic x\n }")
	h := caddysse.HubNamed(name)
	request := &forward.Request{
		Rule: "/hooks/shop", Method: "POST", URI: []byte("/hooks/shop"), Host: fmt.Appendf(nil, "localhost:%d", s.http),
		Proto: "HTTP/1.1", Remote: "127.0.0.1:1", Local: fmt.Sprintf("127.0.0.1:%d", s.http), Body: []byte(`{"order":1}`),
	}
	request.SetHeader(http.Header{"X-Token": {secret}})
	queue := forward.QueueOf(h, fmt.Sprintf(`webhook ["127.0.0.1:%d"] "/hooks/shop" "token" 1`, s.http))
	message, err := forward.Message(queue, request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.PublishAll([]hub.Message{message}, hub.IdempotencyKey{}); err != nil {
		t.Fatal(err)
	}
	s.restart(global, config)
	a.wantBodies(t, `{"order":1}`)
	s.restart(global, config)
	s.sendToShop("HTTP/1.1", "d2", `{"order":2}`)
	a.wantBodies(t, `{"order":1}`, `{"order":2}`) // the first one once
}

// Each delivery reaches the app once: past both rules, and also when one of them
// is gone. It is published once.
func TestEqualRulesInOnePlaceForwardEachDeliveryOnce(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			a, address := startApp(t)
			hub := newHubName()
			global := "sse " + hub + " {\n drain 50ms\n }"
			one := fmt.Sprintf(forwardAsyncSite, hub, address)
			two := one[:strings.Index(one, "sse /events")] + one
			s := watchedSite(t, global, two)
			client := s.open(protocol, "/events")
			var want []string
			send := func() {
				t.Helper()
				body := fmt.Sprintf(`{"order":1,"n":%d}`, len(want)+1)
				want = append(want, body)
				if got := s.sendToShop(protocol, fmt.Sprint("d", len(want)), body); !strings.HasPrefix(got, "202") {
					t.Fatal(got)
				}
				client.expect("", body)
				a.wantBodies(t, want...)
				s.wantMetric(hub, `webhook_forwards_total{result="delivered",rule="/hooks/shop"}`, float64(len(want)))
			}
			send()
			s.reload(global, one)
			client = s.open(protocol, "/events")
			send()
			s.reload(global, two)
			client = s.open(protocol, "/events")
			send()
			if got := s.sendToShop(protocol, "d1", `{"order":1,"n":1}`); !strings.HasPrefix(got, "202") {
				t.Fatal(got)
			}
			send() // and the duplicate has not reached the app before it
		})
	}
}
