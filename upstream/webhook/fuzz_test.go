package webhook_test

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func FuzzReceive(f *testing.F) {
	github := webhook.Verify{Sender: "github", Secrets: []string{"k"}}
	rules := []*webhook.Webhook{
		open(f, webhook.Webhook{}),
		open(f, webhook.Webhook{
			Topics: []string{"a/{json.a}", "{json.l.#}{json.o.b}", "{http.request.header.X-Kind}"},
			Event:  "{json.kind}{http.request.header.X-Kind}", ID: "{json.id}",
		}),
		open(f, webhook.Webhook{Topics: []string{"{form.a}"}, ID: "{http.request.header.X-Kind}", Data: "{form.a}: {json.a}"}),
		open(f, webhook.Webhook{Topics: []string{"t"}, Select: ".a", Event: "{json.kind}"}),
		provision(f, webhook.Webhook{Verify: &github}),
		provision(f, webhook.Webhook{Verify: &webhook.Verify{
			Sender: "hmac", Secrets: []string{"k"}, Header: "X-Hub-Signature-256", Prefix: "sha256=",
			Signed: "{timestamp}.{body}", Timestamp: "X-Kind", Encoding: "base64",
		}}),
	}
	f.Add("/hooks/a", []byte(`{"a":"x","kind":"k","id":1,"l":[1],"o":{"b":"c"}}`), "application/json", "push", "sha256=00")
	f.Add("/", []byte(`a=b&c=%0a`), "application/x-www-form-urlencoded", "error", "sha256="+hexMAC(sha256.New, "k", "a=b&c=%0a"))
	f.Add("/x", []byte("\xff\x00"), "image/png", "a\nid: 1", "")
	f.Add("/x\n", []byte(`{"a":{"b":[]},"kind":"\u0000","id":"a b"}`), "text/plain; charset", "{env.HOME}", " v1,")
	f.Add("x", []byte(`{"a":null}{}`), ";", "1614265330", "sha256=g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	f.Fuzz(func(t *testing.T, path string, body []byte, contentType, kind, signature string) {
		for i, rule := range rules {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
			r.URL = &url.URL{Path: path}
			r.Header = http.Header{
				"Content-Type": {contentType}, "X-Kind": {kind}, "X-Github-Event": {kind},
				"X-Github-Delivery": {kind}, "X-Hub-Signature-256": {signature},
			}
			message, err := receive(rule, r)
			checkOutcome(t, i, message, err)
			if rule.Verify.Sender == "github" && err == nil && !strings.EqualFold(signature, "sha256="+hexMAC(sha256.New, "k", string(body))) {
				t.Errorf("the signature %q was taken", signature)
			}
		}
	})
}

// checkOutcome wants a 4xx refusal, no message, or a message that the hub can
// publish.
func checkOutcome(t *testing.T, rule int, message *webhook.Message, err error) {
	t.Helper()
	if err != nil {
		var refused *refusal.Error
		if !errors.As(err, &refused) || refused.Status < 400 || refused.Status > 499 || refused.Reason == "" ||
			strings.ContainsAny(refused.Reason, "\r\n\x00") {
			t.Errorf("rule %d: %#v", rule, err)
		}
		return
	}
	if message == nil {
		return
	}
	if _, err := message.Event.Encode(); err != nil {
		t.Errorf("rule %d: %v: %+v", rule, err, message.Event)
	}
	if len(message.Topics) == 0 {
		t.Errorf("rule %d: no topic", rule)
	}
	for _, topic := range message.Topics {
		if err := hub.CheckTopic(topic); err != nil {
			t.Errorf("rule %d: %v", rule, err)
		}
	}
}

// FuzzTemplate checks that the module expands a template without backslashes as
// Caddy does.
func FuzzTemplate(f *testing.F) {
	for _, src := range []string{
		"orders/{json.order.id}", `\{a\}`, "{", "}", "{}", "{{a}}", "a{b}c{d}", `{a\}b}`, "{form.}", "ä{json.ü}", `\\{a}`,
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		wh := webhook.Webhook{Verify: &webhook.Verify{Sender: "none"}, Data: src}
		if src == "" || strings.Contains(src, "json") || strings.Contains(src, "form") || wh.Provision(caddy.NewReplacer()) != nil {
			return
		}
		repl := caddy.NewEmptyReplacer()
		repl.Map(func(key string) (any, bool) { return "<" + key + ">", true })
		delivery, err := wh.Receive(httptest.NewRecorder(), post("/t", ""), repl)
		if err != nil {
			if utf8.ValidString(src) {
				t.Errorf("%q: %v", src, err)
			}
			return
		}
		want := repl.ReplaceAll(src, "")
		if got := string(delivery.Messages[0].Event.Data); got != want && !strings.Contains(src, `\`) {
			t.Errorf("%q came to %q, and with Caddy to %q", src, got, want)
		}
	})
}
