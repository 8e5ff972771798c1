package webhook_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// said is all that a delivery has become.
func said(t testing.TB, wh *webhook.Webhook, r *http.Request) string {
	t.Helper()
	delivery, err := deliver(wh, r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(delivery.Messages)
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range delivery.Messages {
		text = append(text, message.Event.Data...)
	}
	return string(text)
}

// everywhere are rules that would publish a field in each way that there is.
func everywhere(verify webhook.Verify, field string) []webhook.Webhook {
	return []webhook.Webhook{
		{Verify: &verify},
		{Verify: &verify, Select: "."},
		{Verify: &verify, Split: "."},
		{Verify: &verify, Data: "{json." + field + "} {form." + field + "}"},
		{Verify: &verify, Event: "{json." + field + "}"},
	}
}

func TestTheClientStateIsNotPublished(t *testing.T) {
	const secret = "S3CRET"
	for _, rule := range everywhere(webhook.Verify{Sender: "microsoft-graph", Secrets: []string{secret}}, "value.0.clientState") {
		wh := provision(t, rule)
		for _, body := range []string{
			`{"value":[{"clientState":"S3CRET","changeType":"created","n":1.50}, {"n":[1, {"a":"\u003c"}],"clientState":"S3CRET"}]}`,
			`{"value":[{"client\u0053tate":"S3CRET","subscriptionId":"s","lifecycleEvent":"missed"}]}`,
			`{"clientState":"S3CRET","value":[{"clientState":"S3CRET","resourceData":{"clientState":"S3CRET"}}]}`,
		} {
			if got := said(t, wh, post("/t", body)); strings.Contains(got, secret) {
				t.Errorf("%+v: %s", rule, got)
			}
		}
	}
	wh := verified(t, webhook.Verify{Sender: "microsoft-graph", Secrets: []string{secret}})
	refuse(t, wh, post("/t", `{"value":[{"clientState":"x"}]}`), 401, "clientState")
	whole := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "microsoft-graph", Secrets: []string{secret}}, Split: ".value"})
	delivery, err := deliver(whole, post("/t", `{"value":[{"clientState":"S3CRET","n":1.50},{"n":[1, {}],"clientState":"S3CRET","b":"\u003c<"}],"x":{}}`))
	if err != nil || string(delivery.Messages[0].Event.Data) != `[{"n":1.50},{"b":"<<","n":[1,{}]}]` {
		t.Errorf("%+v, %v", delivery, err)
	}
	if string(delivery.Body) == "" || !strings.Contains(string(delivery.Body), secret) {
		t.Error("the app no longer gets the body as it came")
	}
}

func TestWhatOfASNSMessageGivesARightIsNotPublished(t *testing.T) {
	s := startTopicService(t)
	m := s.message("Notification")
	m["UnsubscribeURL"] = "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=s"
	m["Token"], m["SubscribeURL"] = "t0ken", "https://example.com/confirm"
	body := s.sign(t, m)
	for _, name := range []string{"UnsubscribeURL", "Signature", "SigningCertURL", "SubscribeURL", "Token"} {
		for _, rule := range everywhere(webhook.Verify{Sender: "sns", Secrets: []string{orders}, Hosts: []string{s.URL}}, name) {
			got := said(t, provision(t, rule), snsPost(body))
			for _, secret := range []string{m["UnsubscribeURL"], m["Token"], m["Signature"], m["SigningCertURL"], m["SubscribeURL"]} {
				if strings.Contains(got, secret) || strings.Contains(got, url.QueryEscape(secret)) {
					t.Errorf("%s: %s", name, got)
				}
			}
		}
	}
}

func TestWhatOfASlackRequestGivesARightIsNotPublished(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "slack", Secrets: []string{"k"}})
	const interaction = `{"type":"block_actions","token":"S3CRET","response_url":"https://hooks.slack.com/S3CRET","actions":[{"value":"a&b"}],"response_urls":["S3CRET"]}`
	for body, want := range map[string]string{
		`{"token":"S3CRET","type":"event_callback","event":{"type":"function_executed","bot_access_token":"S3CRET"}}`: `{"type":"event_callback","event":{"type":"function_executed"}}`,
		"token=S3CRET&command=%2Fdeploy&text=a+b&response_url=https%3A%2F%2Fhooks.slack.com%2FS3CRET":                 "command=%2Fdeploy&text=a+b",
		"payload=" + url.QueryEscape(interaction):                                                                     "payload=" + url.QueryEscape(`{"type":"block_actions","actions":[{"value":"a&b"}]}`),
	} {
		now := strconv.FormatInt(time.Now().Unix(), 10)
		r := post("/t", body, "X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0="+hexMAC(sha256.New, "k", "v0:", now, ":", body))
		if body[0] != '{' {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if got := accept(t, wh, r); string(got.Event.Data) != want {
			t.Errorf("%s", got.Event.Data)
		}
	}
}
