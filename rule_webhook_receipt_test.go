package caddysse_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestDeliveriesOfTwoGitHubAppsAreBothPublished(t *testing.T) {
	hub := newHubName()
	s := startSite(t, "sse "+hub, `
	sse /hooks/github {
		hub `+hub+`
		webhook {
			verify github "`+secret+`"
			topic all
		}
	}
	sse /events {
		hub `+hub+`
		topic all
	}`)
	c := s.open("HTTP/2.0", "/events")
	for _, protocol := range protocols {
		ids := make(map[string]bool)
		for _, app := range []int{1, 2} {
			body := fmt.Sprintf(`{"action":"opened","installation":{"id":%d},"over":%q}`, app, protocol)
			header := []string{"X-GitHub-Event", "issues", "X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958",
				"X-Hub-Signature-256", fmt.Sprintf("sha256=%x", signature(body))}
			first := s.doOver(protocol, "POST", "/hooks/github", body, header...)
			again := s.doOver(protocol, "POST", "/hooks/github", body, header...) // GitHub's button "Redeliver"
			if first.StatusCode != http.StatusAccepted || again.body != first.body {
				t.Errorf("got %s %q and then %q", first.Status, first.body, again.body)
			}
			ids[c.expect("issues", body).ID] = true
		}
		if len(ids) != 2 {
			t.Errorf("two events have the ids %v", ids)
		}
	}
}

// WooCommerce makes its id of the time in seconds.
func TestWooCommerceOrdersOfOneSecondAreBothPublished(t *testing.T) {
	hub := newHubName()
	s := startSite(t, "sse "+hub, `
	sse /hooks/shop {
		hub `+hub+`
		webhook {
			verify hmac "`+secret+`" {
				header X-WC-Webhook-Signature
				encoding base64
			}
			topic  orders
			id     {header.X-WC-Webhook-Delivery-ID}
			dedupe 10 1h
		}
	}
	sse /events {
		hub `+hub+`
		topic orders
	}`)
	c := s.open("HTTP/1.1", "/events")
	for _, body := range []string{`{"id":727,"status":"processing"}`, `{"id":728,"status":"processing"}`} {
		for range 2 {
			resp := s.do("POST", "/hooks/shop", body, "X-WC-Webhook-Delivery-ID", "b3d5d2f37b5bb1b6d3a7a4d4e1f9a2c1",
				"X-WC-Webhook-Signature", base64.StdEncoding.EncodeToString(signature(body)))
			if resp.StatusCode != http.StatusAccepted {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
		}
		c.expect("", body)
	}
}

func TestDroppedDeliveryIsTakenWhenRuleIsMended(t *testing.T) {
	for _, forward := range []string{"", "forward", "forward async"} {
		t.Run(forward, func(t *testing.T) {
			a, address := startApp(t)
			hub := newHubName()
			site := func(when string) string {
				return fmt.Sprintf(`
	sse /hooks/shop {
		hub %[1]s
		webhook {
			verify token X-Token "%[2]s"
			topic  orders/1
			id     {header.X-Delivery}
			when   "%[3]s"
			%[4]s
		}
	}
	sse /events {
		hub %[1]s
		topic orders/1
	}
	reverse_proxy %[5]s`, hub, secret, when, forward, address)
			}
			const body = `{"order":1}`
			s := startSite(t, "sse "+hub+" {\n drain 100ms\n }", site(".oder"))
			for range 2 {
				if got := s.sendToShop("HTTP/2.0", "d1", body); !strings.HasPrefix(got, "20") || strings.Contains(got, "id") {
					t.Fatalf("got %q", got)
				}
			}
			s.reload("sse "+hub+" {\n drain 100ms\n }", site(".order"))
			c := s.open("HTTP/2.0", "/events")
			for range 2 {
				if got := s.sendToShop("HTTP/2.0", "d1", body); !strings.HasPrefix(got, "20") {
					t.Fatalf("got %q", got)
				}
			}
			if e := c.expect("", body); e.ID != "d1" {
				t.Errorf("the event's id is %q", e.ID)
			}
			s.sendToShop("HTTP/2.0", "d2", `{"order":2}`)
			c.expect("", `{"order":2}`) // the second copy published nothing
			switch forward {
			case "forward":
				a.wantBodies(t, body, body, body, body, `{"order":2}`)
			case "forward async":
				a.wantBodies(t, body, `{"order":2}`)
			}
		})
	}
}
