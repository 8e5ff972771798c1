package webhook_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// respond returns the response to a handshake.
func respond(t testing.TB, wh *webhook.Webhook, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	answer, err := handshake(wh, r)
	var refused *refusal.Error
	switch {
	case errors.As(err, &refused):
		refused.Write(w, r)
	case err != nil:
		t.Fatal(err)
	case answer == nil:
		t.Fatal("the request is not a handshake")
	default:
		answer.Write(w)
	}
	if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", w.Header())
	}
	return w
}

func handshake(wh *webhook.Webhook, r *http.Request) (*webhook.HandshakeResponse, error) {
	if r.Method != http.MethodPost {
		return wh.Handshake(r, caddyhttp.NewTestReplacer(r))
	}
	delivery, err := receiveDelivery(wh, r)
	if err != nil {
		return nil, err
	}
	return delivery.HandshakeResponse, nil
}

func want(t testing.TB, w *httptest.ResponseRecorder, status int, contentType, body string) {
	t.Helper()
	if w.Code != status || w.Header().Get("Content-Type") != contentType || w.Body.String() != body {
		t.Errorf("got %d %s %q, want %d %s %q", w.Code, w.Header().Get("Content-Type"), w.Body, status, contentType, body)
	}
}

const plain = "text/plain; charset=utf-8"

func get(target string) *http.Request { return httptest.NewRequest(http.MethodGet, target, nil) }

// signedBy returns a request that the sender signs now.
func signedBy(sender, key, body string) *http.Request {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	signature := hexMAC(sha256.New, key, "v0:", now, ":", body)
	if sender == "slack" {
		return post("/t", body, "X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0="+signature)
	}
	return post("/t", body, "X-Zm-Request-Timestamp", now, "X-Zm-Signature", "v0="+signature)
}

func TestSlackChallengeIsEchoed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "slack", Secrets: []string{"k"}})
		// docs.slack.dev, "url_verification event".
		const body = `{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}`
		want(t, respond(t, wh, signedBy("slack", "k", body)), 200, plain, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
		want(t, respond(t, wh, signedBy("slack", "other", body)), 401, plain, "the signature is wrong\n")
		html := respond(t, wh, signedBy("slack", "k", `{"type":"url_verification","challenge":"<script>alert(1)</script>"}`))
		want(t, html, 200, plain, "<script>alert(1)</script>")
		for _, bad := range []string{"", `a\nb`, `\u0000`, strings.Repeat("x", 1025)} {
			w := respond(t, wh, signedBy("slack", "k", `{"type":"url_verification","challenge":"`+bad+`"}`))
			if w.Code != 400 || strings.Contains(w.Body.String(), "xx") {
				t.Errorf("%q: %d %s", bad, w.Code, w.Body)
			}
		}
		got := accept(t, wh, signedBy("slack", "k", `{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`)).Event
		if got.Name != "app_mention" || got.ID != "Ev1" {
			t.Errorf("%+v", got)
		}
	})
}

func TestZoomTokenIsSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "zoom", Secrets: []string{"old", "k"}})
		// developers.zoom.us, "Validate your webhook endpoint": the plain token
		// is from its example, which doesn't publish the secret.
		const body = `{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}`
		for _, key := range []string{"old", "k"} {
			want(t, respond(t, wh, signedBy("zoom", key, body)), 200, "application/json",
				`{"encryptedToken":"`+hexMAC(sha256.New, key, "qgg8vlvZRS6UYooatFL8Aw")+`","plainToken":"qgg8vlvZRS6UYooatFL8Aw"}`)
		}
		want(t, respond(t, wh, signedBy("zoom", "x", body)), 401, plain, "the signature is wrong\n")
		if w := respond(t, wh, signedBy("zoom", "k", `{"event":"endpoint.url_validation","payload":{"plainToken":"v0:1:{}"}}`)); w.Code != 400 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestDiscordPingIsAnswered(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		now := strconv.FormatInt(time.Now().Unix(), 10)
		wh := verified(t, webhook.Verify{Sender: "discord", Secrets: []string{hex.EncodeToString(public)}})
		ping := func(body, signed string) *http.Request {
			return post("/t", body, "X-Signature-Timestamp", now, "X-Signature-Ed25519", hex.EncodeToString(ed25519.Sign(private, []byte(now+signed))))
		}
		want(t, respond(t, wh, ping(`{"type":1}`, `{"type":1}`)), 200, "application/json", `{"type":1}`)
		want(t, respond(t, wh, ping(`{"version":1,"type":0}`, `{"version":1,"type":0}`)), 204, "", "")
		// Discord tests whether this is refused.
		want(t, respond(t, wh, ping(`{"type":1}`, `{"type":0}`)), 401, plain, "the signature is wrong\n")
	})
}

func TestMetaChallengeNeedsVerifyToken(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "meta", Secrets: []string{"k"}, Challenge: []string{"meatyhamhock"}})
	// developers.facebook.com, "Webhooks: Getting started", its example.
	const query = "/t?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock"
	want(t, respond(t, wh, get(query)), 200, plain, "1158201444")
	for _, bad := range []string{
		strings.Replace(query, "meaty", "x", 1), strings.Replace(query, "subscribe", "x", 1), query + "&hub.verify_token=meatyhamhock",
		"/t?hub.mode=subscribe&hub.challenge=1", "/t?hub.mode=",
	} {
		want(t, respond(t, wh, get(bad)), 403, plain, "the verify token is wrong\n")
	}
	if w := respond(t, wh, get(query+"&hub.challenge=2")); w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	without := verified(t, webhook.Verify{Sender: "meta", Secrets: []string{"k"}})
	for _, token := range []string{"", "&hub.verify_token=", "&hub.verify_token=k"} {
		if w := respond(t, without, get("/t?hub.mode=subscribe&hub.challenge=1"+token)); w.Code != 403 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func TestWebSubIntentIsVerifiedForKnownTopics(t *testing.T) {
	const feed = "https://example.com/feed"
	wh := verified(t, webhook.Verify{Sender: "websub", Secrets: []string{"k"}, Challenge: []string{feed}})
	query := func(mode, topic string) *http.Request {
		return get("/t?" + url.Values{"hub.mode": {mode}, "hub.topic": {topic}, "hub.challenge": {"c"}, "hub.lease_seconds": {"60"}}.Encode())
	}
	want(t, respond(t, wh, query("subscribe", feed)), 200, plain, "c")
	want(t, respond(t, wh, query("unsubscribe", feed)), 404, plain, "the rule keeps its subscription to this topic\n") // anyone could send it
	want(t, respond(t, wh, query("subscribe", feed+"2")), 404, plain, "the rule has no subscription to this topic\n")
	want(t, respond(t, wh, query("other", feed)), 404, plain, "the rule has no subscription to this topic\n")
	want(t, respond(t, wh, query("denied", feed)), 200, "", "")
}

func TestMicrosoftGraphValidationTokenIsEchoedAsPlainText(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "microsoft-graph", Secrets: []string{"s"}})
	// learn.microsoft.com/graph, "notificationUrl validation": the token comes encoded.
	const token = "Validation: Testing client application reachability for subscription Request-Id: 522a8e7e"
	want(t, respond(t, wh, post("/t?validationToken="+url.QueryEscape(token), "", "Content-Type", "text/plain; charset=utf-8")), 200, plain, token)
	want(t, respond(t, wh, post("/t?validationToken=%3Cscript%3E", "")), 200, plain, "<script>")
	for _, bad := range []string{"", "a%0d%0ab", "%ff", strings.Repeat("x", 1025), "a&validationToken=b"} {
		if w := respond(t, wh, post("/t?validationToken="+bad, "")); w.Code != 400 {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	if answer, err := handshake(wh, get("/t?validationToken=x")); answer != nil || err != nil {
		t.Errorf("a GET is one: %+v, %v", answer, err)
	}
}

func TestXChallengeSignsNothingThatCouldBeADelivery(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "x", Secrets: []string{"k", "old"}})
	want(t, respond(t, wh, get("/t?crc_token=abc-_.=1")), 200, "application/json", `{"response_token":"sha256=`+b64MAC("k", "abc-_.=1")+`"}`)
	for _, bad := range []string{"", "%7B%7D", "a%22b", "a%20b", strings.Repeat("x", 257), "a&crc_token=b", "%0a"} {
		if w := respond(t, wh, get("/t?crc_token="+bad)); w.Code != 400 {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	signed := func(body string) *http.Request {
		return post("/t", body, "X-Twitter-Webhooks-Signature", "sha256="+b64MAC("k", body))
	}
	accept(t, wh, signed(" {\"for_user_id\":\"1\"}"))
	refuse(t, wh, signed("abc-_.=1"), 400, "the body is not a JSON object")
}

func TestCloudEventsOriginIsGranted(t *testing.T) {
	options := func(wh *webhook.Webhook, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodOptions, "/t", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		return respond(t, wh, r)
	}
	wh := verified(t, webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}})
	// CloudEvents, "HTTP 1.1 Web Hooks", section 4.1, its example.
	w := options(wh, "WebHook-Request-Origin", "eventemitter.example.com", "WebHook-Request-Rate", "120",
		"WebHook-Request-Callback", "http://169.254.169.254/")
	if w.Code != 200 || w.Header().Get("WebHook-Allowed-Origin") != "eventemitter.example.com" || w.Header().Get("WebHook-Allowed-Rate") != "*" || w.Header().Get("Allow") != "POST" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := options(wh, "WebHook-Request-Origin", "a.example"); w.Header()["Webhook-Allowed-Rate"] != nil {
		t.Errorf("%v", w.Header())
	}
	for _, bad := range [][]string{
		{"WebHook-Request-Origin", ""}, {"WebHook-Request-Origin", "a b"}, {"WebHook-Request-Origin", "<a>"}, {"WebHook-Request-Origin", strings.Repeat("a", 254)},
		{"WebHook-Request-Origin", "a", "WebHook-Request-Origin", "b"},
	} {
		if w := options(wh, bad...); w.Code != 400 || w.Header()["Webhook-Allowed-Origin"] != nil {
			t.Errorf("%v: %d", bad, w.Code)
		}
	}
	one := verified(t, webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}, Challenge: []string{"a.example"}})
	if w := options(one, "WebHook-Request-Origin", "a.example"); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	if w := options(one, "WebHook-Request-Origin", "b.example"); w.Code != 403 || w.Header()["Webhook-Allowed-Origin"] != nil {
		t.Errorf("%d", w.Code)
	}
}

func TestHandshakeIsAnsweredOnlyForItsSender(t *testing.T) {
	handshakes := map[string]func() *http.Request{
		"meta": func() *http.Request {
			return get("/t?hub.mode=subscribe&hub.challenge=c&hub.verify_token=k&hub.topic=k")
		},
		"microsoft-graph": func() *http.Request { return post("/t?validationToken=x", "") },
		"x":               func() *http.Request { return get("/t?crc_token=x") },
		"cloudevents": func() *http.Request {
			r := httptest.NewRequest(http.MethodOptions, "/t", nil)
			r.Header.Set("WebHook-Request-Origin", "a.example")
			return r
		},
	}
	for sender, verify := range everySender(t) {
		wh := verified(t, verify)
		for of, request := range handshakes {
			answer, _ := handshake(wh, request())
			mine := of == sender || of == "meta" && sender == "websub"
			if (answer != nil) != mine {
				t.Errorf("%s answers %s's with %+v", sender, of, answer)
			}
		}
	}
	for _, body := range []string{`{"type":"url_verification","challenge":"c"}`, `{"type":1}`, `{"event":"endpoint.url_validation","payload":{"plainToken":"x"}}`} {
		delivery, err := receiveDelivery(open(t, webhook.Webhook{}), post("/t", body))
		if err != nil || delivery.HandshakeResponse != nil || len(delivery.Messages) != 1 {
			t.Errorf("%+v, %v", delivery, err)
		}
	}
}

// everySender returns each sender with a valid secret.
func everySender(t testing.TB) map[string]webhook.Verify {
	t.Helper()
	all := make(map[string]webhook.Verify)
	err := (&webhook.Webhook{Verify: &webhook.Verify{}}).Provision(caddy.NewReplacer())
	_, names, _ := strings.Cut(err.Error(), "one of ")
	for name := range strings.SplitSeq(names, ", ") {
		all[name] = webhook.Verify{Sender: name, Secrets: []string{"k"}}
	}
	for name, verify := range map[string]webhook.Verify{
		"none": {}, "hmac": {Header: "X-Signature", Secrets: []string{"k"}}, "token": {Header: "X-Token", Secrets: []string{"k"}},
		"basic": {User: "ann", Secrets: []string{"$2a$04$jkpiQvnHGpnX8lcV9LTzyuKaqbPsxxE1zh1CSKqxBC4SwNPBqQtMu"}},
		"sns":   {Secrets: []string{orders}}, "sendgrid": {Secrets: []string{sendGridKey}}, "discord": {Secrets: []string{strings.Repeat("ab", 32)}},
		"standard-webhooks": {Secrets: []string{"whsec_a2V5"}}, "svix": {Secrets: []string{"whsec_a2V5"}},
		"meta": {Secrets: []string{"k"}, Challenge: []string{"k"}}, "websub": {Secrets: []string{"k"}, Challenge: []string{"k"}},
	} {
		verify.Sender = name
		all[name] = verify
	}
	return all
}
