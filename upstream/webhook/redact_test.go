package webhook_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// published returns all messages of a delivery as text.
func published(t testing.TB, wh *webhook.Webhook, r *http.Request) string {
	t.Helper()
	delivery, err := receiveDelivery(wh, r)
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

// rulesPublishing returns rules that publish a field in each possible way.
func rulesPublishing(verify webhook.Verify, field string) []webhook.Webhook {
	return []webhook.Webhook{
		{Verify: &verify},
		{Verify: &verify, Select: "."},
		{Verify: &verify, Split: "."},
		{Verify: &verify, Data: "{json." + field + "} {form." + field + "}"},
		{Verify: &verify, Event: "{json." + field + "}"},
	}
}

func TestClientStateIsNeverPublished(t *testing.T) {
	const secret = "S3CRET"
	for _, rule := range rulesPublishing(webhook.Verify{Sender: "microsoft-graph", Secrets: []string{secret}}, "value.0.clientState") {
		wh := provision(t, rule)
		for _, body := range []string{
			`{"value":[{"clientState":"S3CRET","changeType":"created","n":1.50}, {"n":[1, {"a":"\u003c"}],"clientState":"S3CRET"}]}`,
			`{"value":[{"client\u0053tate":"S3CRET","subscriptionId":"s","lifecycleEvent":"missed"}]}`,
			`{"clientState":"S3CRET","value":[{"clientState":"S3CRET","resourceData":{"clientState":"S3CRET"}}]}`,
		} {
			if got := published(t, wh, post("/t", body)); strings.Contains(got, secret) {
				t.Errorf("%+v: %s", rule, got)
			}
		}
	}
	wh := verified(t, webhook.Verify{Sender: "microsoft-graph", Secrets: []string{secret}})
	refuse(t, wh, post("/t", `{"value":[{"clientState":"x"}]}`), 401, "clientState")
	whole := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "microsoft-graph", Secrets: []string{secret}}, Split: ".value"})
	delivery, err := receiveDelivery(whole, post("/t", `{"value":[{"clientState":"S3CRET","n":1.50},{"n":[1, {}],"clientState":"S3CRET","b":"\u003c<"}],"x":{}}`))
	if err != nil || string(delivery.Messages[0].Event.Data) != `[{"n":1.50},{"b":"<<","n":[1,{}]}]` {
		t.Errorf("%+v, %v", delivery, err)
	}
	if string(delivery.Body) == "" || !strings.Contains(string(delivery.Body), secret) {
		t.Error("the app no longer gets the body as it came")
	}
}

func TestSNSCredentialsAreNeverPublished(t *testing.T) {
	s := startTopicService(t)
	m := s.message("Notification")
	m["UnsubscribeURL"] = "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=s"
	m["Token"], m["SubscribeURL"] = "t0ken", "https://example.com/confirm"
	body := s.sign(t, m)
	for _, name := range []string{"UnsubscribeURL", "Signature", "SigningCertURL", "SubscribeURL", "Token"} {
		for _, rule := range rulesPublishing(webhook.Verify{Sender: "sns", Secrets: []string{orders}, Hosts: []string{s.URL}}, name) {
			got := published(t, provision(t, rule), snsPost(body))
			for _, secret := range []string{m["UnsubscribeURL"], m["Token"], m["Signature"], m["SigningCertURL"], m["SubscribeURL"]} {
				if strings.Contains(got, secret) || strings.Contains(got, url.QueryEscape(secret)) {
					t.Errorf("%s: %s", name, got)
				}
			}
		}
	}
}

func TestSlackCredentialsAreNeverPublished(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "slack", Secrets: []string{"k"}})
	const interaction = `{"type":"block_actions","token":"S3CRET","response_url":"https://hooks.slack.com/S3CRET","actions":[{"value":"a&b"}],"response_urls":["S3CRET"]}`
	for body, want := range map[string]string{
		`{"token":"S3CRET","type":"event_callback","event":{"type":"function_executed","bot_access_token":"S3CRET"}}`: `{"type":"event_callback","event":{"type":"function_executed"}}`,
		"token=S3CRET&command=%2Fdeploy&text=a+b&response_url=https%3A%2F%2Fhooks.slack.com%2FS3CRET":                 "command=%2Fdeploy&text=a+b",
		"payload=" + url.QueryEscape(interaction):                                                                     `{"type":"block_actions","actions":[{"value":"a&b"}]}`,
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

func TestDuplicateKeyIsRefused(t *testing.T) {
	wh := provision(t, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "none"}, Topics: []string{"a/{json.t}"}, When: `.t == "ok"`, Select: ".",
	})
	refuse(t, wh, post("/t", `{"t":"evil","t":"ok"}`), 400, `an object in the body has two members named "t"`)

	plain := verified(t, webhook.Verify{Sender: "none"})
	const structured = `{"specversion":"1.0","id":"1","source":"s","type":"a","data":%s}`
	for _, tc := range []struct{ contentType, body string }{
		{"application/json", `{"a":1,"a":1}`},
		{"application/json", ` { "a" : {"b":[{}, {"c":{},"d":[],"c":null}]} } `},
		{"application/json", `{"t":1,"\u0074":2}`},
		{"text/plain", `[{"a":1},{"a":1,"b":2,"b":3}]`},
		{"application/x-ndjson", "{\"a\":1}\n{\"a\":1,\"a\":2}\n"},
		{"application/cloudevents+json", strings.Replace(structured, "%s", `{"a":1,"a":2}`, 1)},
		{"application/cloudevents+json", strings.Replace(structured, "%s", `1,"id":"2"`, 1)},
		{"application/cloudevents-batch+json", "[" + strings.Replace(structured, "%s", `1,"type":"b"`, 1) + "]"},
	} {
		refuse(t, plain, post("/t", tc.body, "Content-Type", tc.contentType), 400, "has two members named")
	}
	refuse(t, plain, post("/t", `{"a":1,"a":2}`, "Content-Type", "application/json", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Type", "t"), 400, `"a"`)
	refuse(t, plain, post("/t", `{"a\nb":1,"a\nb":2}`), 400, `"a b"`)
	for _, good := range []string{
		`{"a":{"a":{"a":1}},"b":{"a":["a","a",{"a":1},{"a":1}]}}`, `["a","a"]`, `"a"`, "", "a=1&a=2", `{"a":1,"A":2}`, `{"a":1,"a":2} and so on`, `{"a":"a","b":"a"}`,
		strings.Repeat(`{"a":`, 9_999) + "1" + strings.Repeat("}", 9_999),
	} {
		accept(t, plain, post("/t", good))
	}
	forms := provision(t, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "none"}, Topics: []string{"a/{form.t}"}, When: `.t == "ok"`,
	})
	got := accept(t, forms, post("/t", "t=evil&t=ok", "Content-Type", "application/x-www-form-urlencoded"))
	if got.Topics[0] != "a/ok" {
		t.Errorf("%+v", got)
	}
}

func TestHugeBodyIsScannedInTime(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "slack", Secrets: []string{"k"}})
	for _, body := range []string{
		strings.Repeat(`{"token":[`, 4_000) + strings.Repeat("]}", 4_000), strings.Repeat("[", 1<<20-1), strings.Repeat(`{"a":`, 200_000),
	} {
		began := time.Now()
		_, _ = receive(wh, signedBy("slack", "k", body))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%.10s…: %v", body, took)
		}
	}
}

// FuzzRedact compares redacted bodies with what encoding/json makes of them
// without the members.
func FuzzRedact(f *testing.F) {
	for _, body := range []string{`{"token":{"token":1},"a":[{"token":[]},"token",1.50]}`, `[]`, `{"a":{},"token":""}`, "1", `[{"token":1}]`} {
		f.Add(body)
	}
	wh := open(f, webhook.Webhook{})
	wh.Verify = &webhook.Verify{Sender: "slack", Secrets: []string{"k"}}
	if err := wh.Provision(caddy.NewReplacer()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var value any
		if !utf8.ValidString(body) || json.Unmarshal([]byte(body), &value) != nil {
			return
		}
		delivery, err := receiveDelivery(wh, signedBy("slack", "k", body))
		if err != nil || len(delivery.Messages) != 1 {
			return
		}
		var redacted any
		data := delivery.Messages[0].Event.Data
		if err := json.Unmarshal(data, &redacted); err != nil {
			t.Fatalf("%q became %q: %v", body, data, err)
		}
		if want := without(value); !reflect.DeepEqual(redacted, want) {
			t.Errorf("%q became %q", body, data)
		}
	})
}

func without(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range []string{"token", "bot_access_token", "response_url", "response_urls"} {
			delete(v, name)
		}
		for name := range v {
			v[name] = without(v[name])
		}
	case []any:
		for i := range v {
			v[i] = without(v[i])
		}
	}
	return value
}
