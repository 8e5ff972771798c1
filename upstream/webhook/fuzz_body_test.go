package webhook_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// FuzzBody checks that every body is refused as a mistake of the sender or
// becomes events that the hub can publish.
func FuzzBody(f *testing.F) {
	rules := []*webhook.Webhook{
		open(f, webhook.Webhook{MaxBody: 1 << 16, Split: ".[]?", Event: "{json.type}", ID: "{json.id}"}),
		open(f, webhook.Webhook{MaxBody: 1 << 16, When: ".a", Select: ".", Topics: []string{"t/{form.a.b}"}}),
		open(f, webhook.Webhook{MaxBody: 1 << 16, Refresh: []string{"/v1/{json.a}/{form.a[b]}"}}),
	}
	f.Add([]byte(`[{"type":"a","id":1},{"type":"b"}]`), "application/json", "", "")
	f.Add([]byte("{\"a\":1}\n{\"a\":2}"), "application/x-ndjson", "", "")
	f.Add([]byte("a[b][]=1&a[b][][c]=2&a[]=3&=&[=]"), "application/x-www-form-urlencoded", "", "")
	f.Add([]byte(zipped(f, `{"a":"x"}`)), "application/json", "gzip", "")
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/","type":"t"}`), "application/cloudevents+json", "identity", "")
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"/","type":"t"}]`), "application/cloudevents-batch+json", "", "")
	f.Add([]byte("\xff"), "image/png", "", "caf%C3%A9")
	f.Add([]byte("\ufeff{\"a\":1}"), "application/json", "", `"a \"b\" %20" 100%`)
	f.Add([]byte(multipartBody("b", `form-data; name="a[b]"`, "1", `form-data; name="f"; filename="f"`, "x")), "multipart/form-data; boundary=b", "", "")
	f.Fuzz(func(t *testing.T, body []byte, contentType, coding, attribute string) {
		for i, rule := range rules {
			r := httptest.NewRequest(http.MethodPost, "/hooks", strings.NewReader(string(body)))
			r.Header = http.Header{"Content-Type": {contentType}, "Content-Encoding": {coding}}
			if attribute != "" {
				for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type"} {
					r.Header.Set(name, attribute)
				}
			}
			delivery, err := receiveDelivery(rule, r)
			if err != nil {
				checkOutcome(t, i, nil, err)
				continue
			}
			for _, message := range delivery.Messages {
				checkOutcome(t, i, &message, nil)
			}
			for _, view := range delivery.Refresh {
				if strings.Count(view.Path, "/") != 3 || strings.Contains(view.Path, "/../") || strings.ContainsAny(view.Path, "\x00\r\n") {
					t.Errorf("a refresh went to %q", view.Path)
				}
			}
		}
	})
}

// FuzzForm checks that the module parses a form without brackets as net/url
// does.
func FuzzForm(f *testing.F) {
	wh := open(f, webhook.Webhook{Select: "."})
	for _, body := range []string{"a=1&b=2", "a=1&a=2", "a+b=%20", "", "&", "=", "a;b=1", "%zz=", "a=%ff"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		message, err := receive(wh, post("/t", body, "Content-Type", "application/x-www-form-urlencoded"))
		form, formErr := url.ParseQuery(body)
		if json.Valid([]byte(body)) || strings.Contains(body, "[") || strings.Contains(strings.ToLower(body), "%5b") {
			return
		}
		if formErr != nil && err == nil {
			t.Fatalf("%q was taken", body)
		}
		if err != nil {
			return
		}
		var got map[string]string
		if err := json.Unmarshal(message.Event.Data, &got); err != nil || len(got) != len(form) {
			t.Fatalf("%q came to %s, %v", body, message.Event.Data, err)
		}
		for name, values := range form {
			if got[name] != values[len(values)-1] {
				t.Errorf("%q came to %s", body, message.Event.Data)
			}
		}
	})
}

// FuzzHeaders checks that no headers get a request in without the secret.
func FuzzHeaders(f *testing.F) {
	key := rand.Text()
	rules := make(map[string]*webhook.Webhook)
	for name, verify := range everySender(f) {
		switch name {
		case "none", "basic":
			continue
		case "sns":
			verify.Hosts = []string{"http://127.0.0.1:1"} // nobody is there
		case "discord", "sendgrid", "standard-webhooks", "svix": // keys of a kind of their own
		default:
			verify.Secrets = []string{key}
		}
		rules[name] = verified(f, verify)
	}
	f.Add("/t?validationToken=x", "t=946684800,v1=00", "946684800", []byte(`{"value":[{"clientState":"k"}]}`))
	f.Add("/t?crc_token=x&hub.mode=subscribe&hub.verify_token=k&hub.challenge=c", "sha256=00", "", []byte("a=b"))
	f.Add("/t", "v1,AA== v1,", "1", []byte(`{"Type":"Notification","TopicArn":"`+orders+`","SigningCertURL":"http://127.0.0.1:1/cert.pem"}`))
	f.Add("/t?bodySHA256=00", "Bearer k", "x", []byte(""))
	names := []string{
		"X-Hub-Signature-256", "X-Hub-Signature", "X-Gitlab-Token", "X-Gitea-Signature", "Stripe-Signature", "X-Slack-Signature", "X-Shopify-Hmac-Sha256",
		"X-Twilio-Signature", "X-Twilio-Email-Event-Webhook-Signature", "Paddle-Signature", "X-Signature-Ed25519", "Webhook-Signature", "Svix-Signature",
		"X-Zm-Signature", "X-Twitter-Webhooks-Signature", "X-Hubspot-Signature-V3", "X-Pagerduty-Signature", "X-Zendesk-Webhook-Signature", "X-Square-Hmacsha256-Signature",
		"X-Wc-Webhook-Signature", "Linear-Signature", "X-Signature", "X-Token", "Authorization",
	}
	times := []string{"X-Slack-Request-Timestamp", "X-Twilio-Email-Event-Webhook-Timestamp", "X-Signature-Timestamp", "Webhook-Timestamp", "Svix-Timestamp", "X-Zm-Request-Timestamp", "Webhook-Id", "Svix-Id", "X-Hubspot-Request-Timestamp", "X-Zendesk-Webhook-Signature-Timestamp"}
	f.Fuzz(func(t *testing.T, target, signature, timestamp string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" {
			return
		}
		for name, rule := range rules {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodOptions} {
				r := httptest.NewRequest(method, "/", strings.NewReader(string(body)))
				r.URL, r.Host = u, "example.com"
				for _, header := range names {
					r.Header[header] = []string{signature}
				}
				for _, header := range times {
					r.Header[header] = []string{timestamp}
				}
				r.Header["Webhook-Request-Origin"] = []string{signature}
				if method != http.MethodPost {
					answer, err := rule.Handshake(r, caddyhttp.NewTestReplacer(r))
					checkAnswer(t, name, answer, err)
					continue
				}
				delivery, err := receiveDelivery(rule, r)
				if err == nil && delivery.HandshakeResponse == nil {
					t.Fatalf("%s took %q", name, signature)
				}
				if err == nil {
					checkAnswer(t, name, delivery.HandshakeResponse, nil)
				} else {
					checkAnswer(t, name, nil, err)
				}
			}
		}
	})
}

func checkAnswer(t *testing.T, name string, answer *webhook.HandshakeResponse, err error) {
	t.Helper()
	var refused *refusal.Error
	switch {
	case err != nil && (!errors.As(err, &refused) || refused.Status < 400 || refused.Status > 503 || strings.ContainsAny(refused.Reason, "\r\n\x00")):
		t.Errorf("%s: %#v", name, err)
	case answer != nil && (len(answer.Body) > 2048 || answer.Type != "" && answer.Type != "application/json" && answer.Type != plain):
		t.Errorf("%s: %+v", name, answer)
	}
}
