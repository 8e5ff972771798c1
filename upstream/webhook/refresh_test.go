package webhook_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func early() *tls.ConnectionState { return &tls.ConnectionState{HandshakeComplete: false} }

func TestRuleWithOnlyRefreshPublishesNothing(t *testing.T) {
	wh := open(t, webhook.Webhook{Refresh: []string{"/v1/orders/{json.id}", "https://shop.example.com:8443/stock/{json.sku}/left", "/v1/orders/{json.id}"}})
	delivery, err := receiveDelivery(wh, post("/hooks", `{"id":7,"sku":"a b","name":"Ann"}`))
	if err != nil || len(delivery.Messages) != 0 || fmt.Sprint(delivery.Refresh) != "[{ /v1/orders/7} {shop.example.com:8443 /stock/a b/left}]" {
		t.Errorf("%+v, %v", delivery, err)
	}
	both := open(t, webhook.Webhook{Refresh: []string{"/v1/orders/{json.id}"}, Topics: []string{"orders"}})
	delivery, err = receiveDelivery(both, post("/hooks", `{"id":7}`))
	if err != nil || len(delivery.Messages) != 1 || len(delivery.Refresh) != 1 {
		t.Errorf("%+v, %v", delivery, err)
	}
}

func TestDroppedDeliveryRefreshesNothing(t *testing.T) {
	for _, wh := range []webhook.Webhook{{When: ".a"}, {Select: "empty"}} {
		wh.Refresh = []string{"/x/{json.none}"}
		delivery, err := receiveDelivery(open(t, wh), post("/hooks", `{}`))
		if err != nil || len(delivery.Refresh) != 0 {
			t.Errorf("%+v, %v", delivery, err)
		}
	}
	split := open(t, webhook.Webhook{Split: ".[]", When: ". > 1", Refresh: []string{"/o/{json.@this}"}})
	delivery, err := receiveDelivery(split, post("/hooks", `[1,2,3]`))
	if err != nil || fmt.Sprint(delivery.Refresh) != "[{ /o/2} { /o/3}]" {
		t.Errorf("%+v, %v", delivery, err)
	}
}

func TestSenderCannotChangeRefreshPath(t *testing.T) {
	wh := open(t, webhook.Webhook{Refresh: []string{"/v1/orders/{json.id}"}})
	for _, id := range []string{"a/b", "/", "../admin", "a%2fb/c", `a\\b`, `a\nb`, `\u0000`, strings.Repeat("x", 1025)} {
		refuse(t, wh, post("/hooks", `{"id":"`+id+`"}`), 422, "the value of {json.id} is not one segment of a path, which the refresh needs")
	}
	for _, id := range []string{".", ".."} {
		refuse(t, wh, post("/hooks", `{"id":"`+id+`"}`), 422, "segment of dots")
	}
	dots := open(t, webhook.Webhook{Refresh: []string{"/v1/{json.a}{json.b}"}})
	refuse(t, dots, post("/hooks", `{"a":".","b":"."}`), 422, "segment of dots")
	refuse(t, wh, post("/hooks", `{}`), 422, `the payload has no "id", which the refresh needs`)
	for id, path := range map[string]string{"?a=b": "/v1/orders/?a=b", "#x": "/v1/orders/#x", "%2e%2e": "/v1/orders/%2e%2e", "@evil.example": "/v1/orders/@evil.example", "{json.id}": "/v1/orders/{json.id}"} {
		delivery, err := receiveDelivery(wh, post("/hooks", `{"id":"`+id+`"}`))
		if err != nil || len(delivery.Refresh) != 1 || delivery.Refresh[0] != (webhook.RefreshTarget{Path: path}) {
			t.Errorf("%+v, %v", delivery, err)
		}
	}
}

func TestRefreshErrorSaysWhatToWrite(t *testing.T) {
	for src, words := range map[string]string{
		"orders/{json.id}": "write for example `/v1/orders/{json.id}`", "/a?b={json.id}": "without a query", "/a%20b": "decoded path", "/a#b": "without a query",
		"https://{json.host}/x": "without placeholders", "ftp://a/x": "its host", "https:///x": "its host", "https://u@a/x": "its host", "https://a": "want a decoded path",
		"/{json.id": "is not closed", "/{json.}": "write {json.PATH}", "{json.path}": "write for example",
	} {
		wh := webhook.Webhook{Verify: &webhook.Verify{Sender: "none"}, Refresh: []string{src}}
		if err := mistake(t, wh); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", src, err, words)
		}
	}
}

func TestRefreshInEarlyDataNeedsID(t *testing.T) {
	wh := open(t, webhook.Webhook{Refresh: []string{"/x"}})
	r := post("/hooks", `{}`)
	r.TLS = early()
	refuse(t, wh, r, http.StatusTooEarly, "TLS handshake")
}

func TestRefreshTargetsOfOneRequestAreLimited(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: "range(.)", Refresh: []string{"/o/{json.@this}"}})
	delivery, err := receiveDelivery(wh, post("/hooks", `1000`))
	if err != nil || len(delivery.Refresh) != 1000 {
		t.Errorf("%d, %v", len(delivery.Refresh), err)
	}
	refuse(t, wh, post("/hooks", `1001`), 422, "more than 1000 views to refresh")
	same := open(t, webhook.Webhook{Split: "range(.)", Refresh: []string{"/o"}})
	if delivery, err := receiveDelivery(same, post("/hooks", `5000`)); err != nil || len(delivery.Refresh) != 1 {
		t.Errorf("%+v, %v", delivery, err)
	}
}
