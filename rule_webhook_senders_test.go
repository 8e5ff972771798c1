package caddysse_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	secret         = "a secret"
	standardSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// senders is a site with a rule for each kind of sender. /events streams the
// events of all.
const senders = `
	sse /hooks/github {
		webhook {
			verify github "` + secret + `"
			topic  repos/{json.repository.full_name}
			select ` + "`{action, number: .issue.number}`" + `
		}
	}
	sse /hooks/shop {
		webhook {
			verify hmac "an older secret" "` + secret + `" {
				header X-Shop-Signature
				encoding base64
			}
			topic    orders/{json.order.id}
			event    {json.kind}
			id       {header.X-Delivery}
			max_body 1KiB
		}
	}
	sse /hooks/standard {
		webhook {
			verify standard-webhooks ` + standardSecret + `
			topic  users/{json.data.userId}
			select .data
		}
	}
	sse /events {
		topic repos/a/b orders/1 users/u1
	}
`

func signature(body string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return mac.Sum(nil)
}

func fromGitHub(body string) []string {
	return []string{
		"X-Hub-Signature-256", "sha256=" + hex.EncodeToString(signature(body)),
		"X-GitHub-Event", "issues", "X-GitHub-Delivery", "delivery-" + strconv.Itoa(len(body)),
	}
}

func fromShop(body string) []string {
	return []string{"X-Shop-Signature", base64.StdEncoding.EncodeToString(signature(body))}
}

// fromStandard returns a webhook signed by the standard's own library.
func fromStandard(t *testing.T, body string, at time.Time) []string {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(standardSecret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := wh.Sign("msg_1", at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"webhook-id", "msg_1", "webhook-timestamp", strconv.FormatInt(at.Unix(), 10), "webhook-signature", sig}
}

func TestSignedWebhookBecomesEvent(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, "", senders)
			c := s.open(protocol, "/events")
			github := `{"action":"opened","issue":{"number":9007199254740993},"repository":{"full_name":"a/b"}}`
			shop := `{"kind":"paid","order":{"id":1}}`
			standard := `{"type":"order.shipped","data":{"userId":"u1","total":"12.50"}}`
			for _, delivery := range []struct {
				path, body  string
				header      []string
				name, data  string
				deliveredAs string
			}{
				{"/hooks/github", github, fromGitHub(github), "issues", `{"action":"opened","number":9007199254740993}`, "delivery-" + strconv.Itoa(len(github))},
				{"/hooks/shop", shop, fromShop(shop), "paid", shop, ""},
				{"/hooks/standard", standard, fromStandard(t, standard, time.Now()), "order.shipped", `{"total":"12.50","userId":"u1"}`, "msg_1"},
			} {
				resp := s.doOver(protocol, "POST", delivery.path, delivery.body, delivery.header...)
				if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Content-Type") != "application/json" {
					t.Fatalf("%s: got %s %q", delivery.path, resp.Status, resp.body)
				}
				e := c.expect(delivery.name, delivery.data)
				if resp.body != fmt.Sprintf("{\"id\":%q}\n", e.ID) || delivery.deliveredAs != "" && e.ID != delivery.deliveredAs {
					t.Errorf("%s: the sender was told %q, the event has the id %q", delivery.path, resp.body, e.ID)
				}
			}
		})
	}
}

func TestRefusedWebhookPublishesNothing(t *testing.T) {
	s := startSite(t, "", senders)
	c := s.open("HTTP/2.0", "/events")
	good := `{"kind":"paid","order":{"id":1}}`
	standard := `{"type":"x","data":{"userId":"u1"}}`
	large := fmt.Sprintf(`{"order":{"id":1},"pad":%q}`, strings.Repeat("x", 2000))
	noOrder := `{"kind":"paid"}`
	notJSON := `{"kind":`
	for name, request := range map[string]struct {
		path, body string
		header     []string
		status     int
		reason     string
	}{
		"no signature":            {"/hooks/shop", good, nil, http.StatusUnauthorized, "X-Shop-Signature missing"},
		"a wrong signature":       {"/hooks/shop", good, fromShop(good + " "), http.StatusUnauthorized, "signature is wrong"},
		"a byte changed":          {"/hooks/shop", strings.Replace(good, "1", "2", 1), fromShop(good), http.StatusUnauthorized, "signature is wrong"},
		"too large":               {"/hooks/shop", large, fromShop(large), http.StatusRequestEntityTooLarge, "1024"},
		"a topic without a field": {"/hooks/shop", noOrder, fromShop(noOrder), http.StatusUnprocessableEntity, `"order.id"`},
		"no JSON":                 {"/hooks/shop", notJSON, fromShop(notJSON), http.StatusBadRequest, "JSON"},
		"an old timestamp":        {"/hooks/standard", standard, fromStandard(t, standard, time.Now().Add(-time.Hour)), http.StatusUnauthorized, "more than 5m0s"},
		"a future timestamp":      {"/hooks/standard", standard, fromStandard(t, standard, time.Now().Add(time.Hour)), http.StatusUnauthorized, "more than 5m0s"},
	} {
		resp := s.do("POST", request.path, request.body, request.header...)
		if resp.StatusCode != request.status || !strings.Contains(resp.body, request.reason) {
			t.Errorf("%s: got %d %q, want %d with %q", name, resp.StatusCode, resp.body, request.status, request.reason)
		}
		if strings.Contains(resp.body, secret) || strings.Contains(resp.body, hex.EncodeToString(signature(good))) {
			t.Errorf("%s: the answer tells a secret: %q", name, resp.body)
		}
	}
	if resp := s.do("POST", "/hooks/shop", good, fromShop(good)...); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("got %s", resp.Status)
	}
	c.expect("paid", good) // the first event
}

func TestEmptyEventNameOrIDIsOmitted(t *testing.T) {
	s := startSite(t, "", senders)
	c := s.open("HTTP/1.1", "/events")
	body := `{"order":{"id":1}}`
	if resp := s.do("POST", "/hooks/shop", body, fromShop(body)...); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("got %s %s", resp.Status, resp.body)
	}
	if e := c.expect("", body); e.ID == "" {
		t.Error("the event has no position")
	}
}
