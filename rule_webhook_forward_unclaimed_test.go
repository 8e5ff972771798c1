package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// twoShops are two rules with the same listener, path and sender. Only the
// blocks around them tell them apart.
const twoShops = `
	handle @a {
		sse /hooks/shop {
			hub %[1]s
			webhook {
				verify token X-Token "` + secret + `"
				topic  orders/a
				id     {header.X-Delivery}
				forward async
			}
		}
		reverse_proxy %[2]s
	}`

const secondShop = `
	@b header X-Shop b
	handle @b {
		sse /hooks/shop {
			hub %[1]s
			webhook {
				verify token X-Token "` + secret + `"
				topic  orders/b
				id     {header.X-Delivery}
				forward async
			}
		}
		reverse_proxy %[2]s
	}
	sse /events {
		hub %[1]s
		topic orders/b
	}`

func shops(hub, address string) (both, second string) {
	second = fmt.Sprintf(secondShop, hub, address)
	return "@a header X-Shop a\n" + fmt.Sprintf(twoShops, hub, address) + second, second
}

func (s *site) sendToSecondShop(id string) string {
	s.t.Helper()
	resp := s.doOver("HTTP/1.1", "POST", "/hooks/shop", `{"order":1}`, "X-Shop", "b", "X-Token", secret, "X-Delivery", id)
	return fmt.Sprint(resp.StatusCode, " ", resp.body)
}

func TestForwardedDeliveriesOutliveTheRuleBeforeTheirs(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusInternalServerError, "down"))
	hub := newHubName()
	both, second := shops(hub, address)
	global := "sse " + hub + " {\n drain 100ms\n }"
	s := startSite(t, global, both)
	if got := s.sendToSecondShop("d1"); !strings.HasPrefix(got, "202") {
		t.Fatal(got)
	}
	a.wantBodies(t, `{"order":1}`)
	a.respond(respondWith(http.StatusOK, ""))
	before := len(a.received())
	s.reload(global, second)
	waitFor(t, "the delivery after the first rule was removed", func() bool { return len(a.received()) > before })
	s.reload(global, both)
	s.reload(global, second)
	if got := len(a.received()) - before; got != 1 {
		t.Errorf("the app got it %d times", got)
	}
}

func TestForwardedDeliveriesOutliveARestartWithoutTheRuleBeforeTheirs(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusInternalServerError, "down"))
	hub := newHubName()
	both, second := shops(hub, address)
	global := "sse " + hub + " {\n store file " + t.TempDir() + "\n drain 100ms\n }"
	s := startSite(t, global, both)
	s.sendToSecondShop("d1")
	a.wantBodies(t, `{"order":1}`)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	a.respond(respondWith(http.StatusOK, ""))
	before := len(a.received())
	s.reload(global, second)
	waitFor(t, "the delivery after a restart without the first rule", func() bool { return len(a.received()) > before })
}

func TestDuplicatesAreKnownWithoutTheRuleBeforeTheirs(t *testing.T) {
	_, address := startApp(t)
	hub := newHubName()
	both, second := shops(hub, address)
	global := "sse " + hub + " {\n drain 100ms\n }"
	s := startSite(t, global, both)
	first := s.sendToSecondShop("d1")
	s.reload(global, second)
	if got := s.sendToSecondShop("d1"); got != first {
		t.Errorf("got %s, want the first response %s", got, first)
	}
	s.sendToSecondShop("d2")
	c := s.open("HTTP/1.1", "/events", "Last-Event-ID", "d1")
	if e := c.next(); e.ID != "d2" {
		t.Errorf("the event after the first is %+v: the duplicate was published", e)
	}
}

// A rule is renamed by its matcher, or has another sender.
func TestForwardedDeliveriesOutliveAnEditOfTheirRule(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusInternalServerError, "down"))
	hub := newHubName()
	global := "sse " + hub + " {\n drain 100ms\n }"
	config := fmt.Sprintf(forwardAsyncSite, hub, address)
	s := watchedSite(t, global, config)
	s.sendToShop("HTTP/1.1", "d1", `{"order":1}`)
	a.wantBodies(t, `{"order":1}`)
	a.respond(respondWith(http.StatusOK, ""))
	s.reload(global, strings.Replace(config, "sse /hooks/shop {", "sse /hooks/* {", 1))
	s.wantMetric(hub, `webhook_forwards_total{result="delivered",rule="/hooks/shop"}`, 1)
	a.wantBodies(t, `{"order":1}`, `{"order":1}`)
	if got := s.sendToShop("HTTP/1.1", "d2", `{"order":2}`); !strings.HasPrefix(got, "202") {
		t.Error(got)
	}
	s.wantMetric(hub, `webhook_forwards_total{result="delivered",rule="/hooks/*"}`, 1)
}

// The rule still receives webhooks, and forwards them itself or not at all. It
// must not publish again what it published before.
func TestForwardedDeliveriesAreNotPublishedAgainByAnEditedRule(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusInternalServerError, "down"))
	hub := newHubName()
	global := "sse " + hub + " {\n drain 100ms\n }"
	config := strings.Replace(fmt.Sprintf(forwardAsyncSite, hub, address), "id     {header.X-Delivery}", "", 1)
	s := startSite(t, global, config)
	c := s.open("HTTP/1.1", "/events")
	s.sendToShop("HTTP/1.1", "", `{"order":1}`)
	first := c.expect("", `{"order":1}`)
	a.wantBodies(t, `{"order":1}`)
	a.respond(respondWith(http.StatusOK, ""))
	s.reload(global, strings.Replace(config, "forward async", "", 1))
	a.wantBodies(t, `{"order":1}`, `{"order":1}`)
	c.close()
	s.sendToShop("HTTP/1.1", "", `{"order":1,"n":2}`)
	c = s.open("HTTP/1.1", "/events", "Last-Event-ID", first.ID)
	c.expect("", `{"order":1,"n":2}`)
}

func TestDeliveriesWhoseRuleIsGoneBecomeDeadLetters(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusInternalServerError, "down"))
	hub := newHubName()
	// The history is short, and so is the time that attempts may fail.
	global := "sse " + hub + " {\n history 3s\n drain 100ms\n }"
	s := watchedSite(t, global, fmt.Sprintf(forwardAsyncSite, hub, address))
	s.sendToShop("HTTP/1.1", "d1", `{"order":1}`)
	a.wantBodies(t, `{"order":1}`)
	s.reload(global, "respond /hooks/* 200")
	waitFor(t, "the dead letter in the list", func() bool { // which it leaves after 3 s
		_, text := s.requestAdmin("GET", "/sse/deadletters?hub="+hub)
		return strings.Contains(text, `"rule":"/hooks/shop"`)
	})
	s.wantMetric(hub, `webhook_forwards_total{result="dead",rule="/hooks/shop"}`, 1)
}
