package caddysse_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

const forwardAsyncSite = `
	sse /hooks/shop {
		hub %[1]s
		webhook {
			verify token X-Token "` + secret + `"
			topic  orders/{json.order}
			id     {header.X-Delivery}
			when   ` + "`.kind != \"noise\"`" + `
			forward async
		}
	}
	sse /events {
		hub %[1]s
		topic orders/1
	}
	reverse_proxy %[2]s`

func (s *site) sendToShop(protocol, id, body string) string {
	s.t.Helper()
	resp := s.doOver(protocol, "POST", "/hooks/shop?a=b%2fc", body, "X-Token", secret, "X-Delivery", id, "Content-Type", "text/x-odd")
	return fmt.Sprint(resp.StatusCode, " ", resp.body)
}

func (a *app) wantBodies(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	waitFor(t, fmt.Sprintf("the app to get %q", want), func() bool {
		got = nil
		for _, r := range a.received() {
			got = append(got, r.body)
		}
		return len(got) >= len(want)
	})
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Fatalf("the app got %q, want %q", got, want)
	}
}

func TestForwardAsyncForwardsAcknowledgedWebhook(t *testing.T) {
	a, address := startApp(t)
	hub := newHubName()
	s := startSite(t, "sse "+hub, fmt.Sprintf(forwardAsyncSite, hub, address))
	var want []string
	for i, protocol := range protocols {
		c := s.open(protocol, "/events")
		id := fmt.Sprint("d", i)
		body := fmt.Sprintf(`{ "order": 1,  "n":%d }`, i)
		for range 2 { // the app receives the duplicate once
			if got := s.sendToShop(protocol, id, body); got != fmt.Sprintf("202 {\"id\":%q}\n", id) {
				t.Fatalf("got %q", got)
			}
		}
		c.expect("", body)
		odd := fmt.Sprintf("no JSON \xff%d", i)
		if got := s.sendToShop(protocol, "", odd); got != "204 " {
			t.Errorf("the unmappable delivery got %q", got)
		}
		noise := fmt.Sprintf(`{"kind":"noise","n":%d}`, i)
		if got := s.sendToShop(protocol, id+"-noise", noise); got != "204 " {
			t.Errorf("the dropped delivery got %q", got)
		}
		if resp := s.doOver(protocol, "POST", "/hooks/shop", body, "X-Token", "wrong"); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("got %s", resp.Status)
		}
		want = append(want, body, odd, noise)
		a.wantBodies(t, want...)
		c.close()
	}
	for i, r := range a.received() {
		if r.uri != "/hooks/shop?a=b%2fc" || r.method != "POST" || !strings.HasPrefix(r.host, "localhost:") ||
			r.header.Get("X-Token") != secret || r.header.Get("Content-Type") != "text/x-odd" || r.header.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("%d: the app got %+v", i, r)
		}
		if proto := r.header.Get("X-Forwarded-Proto"); proto != []string{"http", "https", "https"}[i/3] {
			t.Errorf("%d: it came over %s", i, proto)
		}
	}
	// Deliveries are invisible to subscribers, also from the beginning.
	c := s.open("HTTP/1.1", "/events", "Last-Event-ID", "d0")
	c.expect("", `{ "order": 1,  "n":1 }`)
	c.expect("", `{ "order": 1,  "n":2 }`)
}

func TestPendingDeliveriesSurviveReloadAndRestart(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusInternalServerError, "down"))
	hub := newHubName()
	global := "sse " + hub + " {\n store file " + t.TempDir() + "\n drain 100ms\n }"
	s := startSite(t, global, fmt.Sprintf(forwardAsyncSite, hub, address))
	if got := s.sendToShop("HTTP/2.0", "d1", `{"order":1}`); !strings.HasPrefix(got, "202") {
		t.Fatal(got)
	}
	a.wantBodies(t, `{"order":1}`)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	a.respond(respondWith(http.StatusOK, ""))
	before := len(a.received())
	s.reload(global, fmt.Sprintf(forwardAsyncSite, hub, address))
	waitFor(t, "the delivery after a restart", func() bool { return len(a.received()) > before })

	// The app moves to another address while it is slow.
	block := make(chan struct{})
	a.respond(func(w http.ResponseWriter, _ *http.Request) {
		<-block
		w.WriteHeader(http.StatusOK)
	})
	before = len(a.received())
	s.sendToShop("HTTP/2.0", "d2", `{"order":2}`)
	waitFor(t, "the slow delivery", func() bool { return len(a.received()) > before })
	if err := s.load(global, "sse /x {\n webhook {\n verify github {env.CADDY_SSE_NOT_SET}\n forward async\n }\n }"); err == nil {
		t.Error("a configuration without a secret is taken")
	} // and the configuration in force continues
	other, otherAddress := startApp(t)
	s.reload(global, fmt.Sprintf(forwardAsyncSite, hub, otherAddress))
	s.sendToShop("HTTP/2.0", "d3", `{"order":3}`)
	close(block)
	other.wantBodies(t, `{"order":3}`) // but not what the first address received
	if got := len(a.received()); got != before+1 {
		t.Errorf("the old address got %d more", got-before)
	}
}

func TestOperatorListsAndRetriesDeadLetters(t *testing.T) {
	a, address := startApp(t)
	a.respond(respondWith(http.StatusGone, "no more"))
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, fmt.Sprintf(forwardAsyncSite, hub, address))
	const rule = `rule="/hooks/shop"`
	for _, name := range []string{`webhook_forwards_total{result="delivered",`, `webhook_forwards_total{result="dead",`, `webhooks_pending{`} {
		if _, ok := s.scrape(hub)[name+rule+"}"]; !ok {
			t.Errorf("%s isn't there: %v", name, s.scrape(hub))
		}
	}
	s.sendToShop("HTTP/1.1", "d1", `{"order":1,"private":"data"}`)
	s.wantMetric(hub, `webhook_forwards_total{result="dead",`+rule+`}`, 1)
	s.wantMetric(hub, `webhooks_pending{`+rule+`}`, 0)
	status, text := s.requestAdmin("GET", "/sse/deadletters?hub="+hub)
	var list struct {
		Total   int
		Letters []struct {
			ID, Rule, Host, Method, Path, Reason, Received, Died string
			Status, Attempts                                     int
			Kept                                                 bool
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != http.StatusOK || list.Total != 1 {
		t.Fatalf("%d %s %v", status, text, err)
	}
	l := list.Letters[0]
	if l.Rule != "/hooks/shop" || l.Method != "POST" || l.Path != "/hooks/shop" || l.Status != 410 || l.Attempts != 1 || !l.Kept || l.Received == "" || l.Died == "" {
		t.Errorf("%+v", l)
	}
	for _, hidden := range []string{secret, "private", "a=b"} {
		if strings.Contains(text, hidden) {
			t.Errorf("it shows %q: %s", hidden, text)
		}
	}
	a.respond(respondWith(http.StatusOK, ""))
	for _, try := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/sse/deadletters?id=" + l.ID, http.StatusAccepted},
		{"POST", "/sse/deadletters?id=" + l.ID, http.StatusNotFound},
		{"POST", "/sse/deadletters", http.StatusNotFound},
		{"PUT", "/sse/deadletters", http.StatusMethodNotAllowed},
	} {
		if status, text := s.requestAdmin(try.method, try.path); status != try.status {
			t.Errorf("%s %s: %d %s", try.method, try.path, status, text)
		}
	}
	s.wantMetric(hub, `webhook_forwards_total{result="delivered",`+rule+`}`, 1)
	if _, text := s.requestAdmin("GET", "/sse/deadletters?hub="+hub); !strings.HasPrefix(text, `{"total":0,`) {
		t.Error(text)
	}
}

func TestForwardedRequestThatMissesItsRuleIsNotDelivered(t *testing.T) {
	a, address := startApp(t)
	hub := newHubName()
	global := "sse " + hub + " {\n drain 100ms\n }"
	s := watchedSite(t, global, fmt.Sprintf(forwardAsyncSite, hub, "127.0.0.1:1"))
	s.sendToShop("HTTP/1.1", "d1", `{"order":1}`)
	failed := func() float64 { return s.scrape(hub)[`webhook_forwards_total{result="failed",rule="/hooks/shop"}`] }
	waitFor(t, "a failed attempt", func() bool { return failed() > 0 })
	// Another handler responds before the rule.
	s.reload(global, "redir /hooks/shop /elsewhere\n"+fmt.Sprintf(forwardAsyncSite, hub, address))
	before := failed()
	waitFor(t, "an attempt that the other handler answers", func() bool { return failed() > before })
	s.reload(global, fmt.Sprintf(forwardAsyncSite, hub, address))
	a.wantBodies(t, `{"order":1}`)
	s.wantMetric(hub, `webhook_forwards_total{result="delivered",rule="/hooks/shop"}`, 1)
}
