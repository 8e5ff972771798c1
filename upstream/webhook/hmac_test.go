package webhook_test

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func hmacRule(t testing.TB, v webhook.Verify) *webhook.Webhook {
	t.Helper()
	v.Sender, v.Header = "hmac", "X-Sig"
	if v.Secrets == nil {
		v.Secrets = []string{"k"}
	}
	return verified(t, v)
}

// PagerDuty signs with each secret during a rotation.
func TestOneHMACSignatureOfSeveralSuffices(t *testing.T) {
	const body = `{"a":1}`
	wh := hmacRule(t, webhook.Verify{Prefix: "v1=", Separator: ","})
	right, wrong := "v1="+hexMAC(sha256.New, "k", body), "v1="+hexMAC(sha256.New, "other", body)
	for _, header := range []string{right, right + "," + wrong, wrong + "," + right, wrong + ", " + right, "v0=00," + right + ",", "x," + right} {
		accept(t, wh, post("/t", body, "X-Sig", header))
	}
	for _, header := range []string{wrong, wrong + "," + wrong, strings.TrimPrefix(right, "v1="), right + right, ",", right + ";" + wrong} {
		refuse(t, wh, post("/t", body, "X-Sig", header), 401, "the signature is wrong")
	}
}

func TestHMACReadsTimeFromSignatureHeader(t *testing.T) {
	const body = `{"a":1}`
	at(t, standardTime, func(t *testing.T) {
		wh := hmacRule(t, webhook.Verify{Prefix: "v1=", Separator: ",", TimestampPrefix: "t=", Signed: "{timestamp}.{body}"})
		header := func(seconds int) string {
			text := strconv.Itoa(seconds)
			return "t=" + text + ",v1=" + hexMAC(sha256.New, "k", text, ".", body)
		}
		accept(t, wh, post("/t", body, "X-Sig", header(standardTime-299)))
		refuse(t, wh, post("/t", body, "X-Sig", header(standardTime-301)), 401, "more than 5m0s ago")
		refuse(t, wh, post("/t", body, "X-Sig", header(standardTime)+",t=1"), 401, "is wrong")
		refuse(t, wh, post("/t", body, "X-Sig", header(standardTime)[13:]), 401, "is wrong")
	})
}

func TestTimeIsSecondsMillisecondsOrRFC3339(t *testing.T) {
	const body = `{"a":1}`
	at(t, standardTime, func(t *testing.T) {
		wh := hmacRule(t, webhook.Verify{Timestamp: "X-Time", Signed: "{timestamp}{body}"})
		send := func(text string) *http.Request {
			return post("/t", body, "X-Time", text, "X-Sig", hexMAC(sha256.New, "k", text, body))
		}
		now := time.Now().UTC()
		for _, format := range []func(time.Time) string{
			func(t time.Time) string { return fmt.Sprint(t.Unix()) }, func(t time.Time) string { return fmt.Sprint(t.UnixMilli()) },
			func(t time.Time) string { return t.Format(time.RFC3339) }, func(t time.Time) string { return t.Format(time.RFC3339Nano) },
			func(t time.Time) string { return t.In(time.FixedZone("", 3600)).Format(time.RFC3339) },
		} {
			accept(t, wh, send(format(now.Add(-299*time.Second))))
			refuse(t, wh, send(format(now.Add(-301*time.Second))), 401, "more than 5m0s ago")
			refuse(t, wh, send(format(now.Add(302*time.Second))), 401, "more than 5m0s ahead")
		}
		for _, text := range []string{"1e9", "1614265330000000000000", "2021-02-25", "2021-02-25 14:48:50Z", "-1", "0x60"} {
			refuse(t, wh, send(text), 401, "unix seconds, milliseconds or RFC 3339")
		}
		inBody := hmacRule(t, webhook.Verify{Timestamp: "{json.sent.at}"})
		for text, words := range map[string]string{
			fmt.Sprintf(`{"sent":{"at":%d}}`, standardTime): "", bom + fmt.Sprintf(`{"sent":{"at":"%d000"}}`, standardTime): "",
			`{"sent":{"at":1}}`: "ago", `{"sent":{}}`: "sent.at is not a time", "x": "sent.at is not a time",
		} {
			r := post("/t", text, "X-Sig", hexMAC(sha256.New, "k", text))
			if words == "" {
				accept(t, inBody, r)
			} else {
				refuse(t, inBody, r, 401, words)
			}
		}
	})
}

func TestHMACSignsPartsOfRequest(t *testing.T) {
	const body = `{"a":1}`
	for signed, want := range map[string]string{
		"{method}{url}{body}":                            "POSThttps://shop.example.com/a%2Fb/c?x=1&y=%20" + body,
		"{method} {scheme} {host} {path} {query} {body}": "POST https shop.example.com /a%2Fb/c x=1&y=%20 " + body,
		"{http.request.method}{http.request.host}{http.request.uri.path}{http.request.uri.query}{body}": "POSTshop.example.com/a%2Fb/cx=1&y=%20" + body,
		"{hostport}{uri}{body}": "shop.example.com/a%2Fb/c?x=1&y=%20" + body,
	} {
		wh := hmacRule(t, webhook.Verify{Signed: signed})
		r := post("https://shop.example.com/a%2Fb/c?x=1&y=%20", body, "X-Sig", hexMAC(sha256.New, "k", want))
		accept(t, wh, r)
		refuse(t, wh, post("https://shop.example.com/a%2Fb/c?x=2&y=%20", body, "X-Sig", hexMAC(sha256.New, "k", want)), 401, "is wrong")
	}
	behind := hmacRule(t, webhook.Verify{Signed: "{url}{body}", URL: "https://hooks.example.com{http.request.orig_uri}"})
	accept(t, behind, post("http://10.0.0.1/t?a=b", body, "X-Sig", hexMAC(sha256.New, "k", "https://hooks.example.com/t?a=b", body)))
}

func TestBase64OfAnyKindIsDecoded(t *testing.T) {
	const body = "~~~???>>>"
	sum := mac(sha256.New, "k", body)
	wh := hmacRule(t, webhook.Verify{Encoding: "base64"})
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		accept(t, wh, post("/t", body, "X-Sig", encoding.EncodeToString(sum)))
		refuse(t, wh, post("/t", body, "X-Sig", encoding.EncodeToString(sum[1:])), 401, "is wrong")
	}
}

func TestKeyOptionDecodesSecret(t *testing.T) {
	const body = `{"a":1}`
	raw := []byte("\x00\x01\xfe binary key")
	encoded := base64.StdEncoding.EncodeToString(raw)
	for secret, key := range map[string]string{
		hex.EncodeToString(raw): "hex", encoded: "base64", strings.TrimRight(encoded, "="): "base64",
		"whsec_" + encoded: "whsec", "v1,whsec_" + encoded: "whsec", string(raw): "text",
	} {
		wh := hmacRule(t, webhook.Verify{Secrets: []string{secret}, Key: key})
		accept(t, wh, post("/t", body, "X-Sig", hexMAC(sha256.New, string(raw), body)))
	}
	// Supabase prints the secrets of its hooks so.
	at(t, standardTime, func(t *testing.T) {
		for _, secret := range []string{"v1,whsec_" + standardKey, "whsec_" + strings.TrimRight(standardKey, "=")} {
			accept(t, verified(t, webhook.Verify{Sender: "standard-webhooks", Secrets: []string{secret}}), standardPost(standardSignature))
		}
		// hmac can say what the sender says.
		all := verified(t, webhook.Verify{
			Sender: "hmac", Header: "Webhook-Signature", Secrets: []string{"whsec_" + standardKey}, Key: "whsec", Encoding: "base64",
			Prefix: "v1,", Separator: " ", Timestamp: "Webhook-Timestamp", Signed: "{header.Webhook-Id}.{timestamp}.{body}",
		})
		accept(t, all, standardPost("v1,AAAA "+standardSignature))
	})
}

func TestHMACOptionErrorSaysWhatToWrite(t *testing.T) {
	for _, tc := range []struct {
		verify webhook.Verify
		words  string
	}{
		{webhook.Verify{TimestampPrefix: "t=", Prefix: "v1=", Signed: "{timestamp}.{body}"}, "add `separator ,`"},
		{webhook.Verify{TimestampPrefix: "t=", Separator: ",", Signed: "{timestamp}.{body}"}, "add `prefix v1=`"},
		{webhook.Verify{TimestampPrefix: "t=", Prefix: "v1=", Separator: ",", Timestamp: "X"}, "leave one of them out"},
		{webhook.Verify{TimestampPrefix: "t=", Prefix: "v1=", Separator: ","}, "the timestamp must be part of it"},
		{webhook.Verify{Timestamp: "{json.}"}, "is not the name of a header"},
		{webhook.Verify{Key: "pem"}, "want text, hex, base64 or whsec"},
		{webhook.Verify{Key: "hex", Secrets: []string{"xyz"}}, "secret 1: it is not hex"},
		{webhook.Verify{Key: "base64", Secrets: []string{"?"}}, "secret 1: it is not Base64"},
		{webhook.Verify{Signed: "{body}{json.x}"}, "{method}, {url}"},
		{webhook.Verify{URL: "{"}, "url `{`"},
	} {
		tc.verify.Sender, tc.verify.Header = "hmac", "X"
		if tc.verify.Secrets == nil {
			tc.verify.Secrets = []string{"k"}
		}
		if err := mistake(t, webhook.Webhook{Verify: &tc.verify}); err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%+v: %v, want %q", tc.verify, err, tc.words)
		}
	}
}

func TestTwilioSignatureOfEitherAlgorithmIsAccepted(t *testing.T) {
	const url, form = "https://example.com/t", "A=1&B=2"
	wh := verified(t, webhook.Verify{Sender: "twilio", Secrets: []string{"old", "k"}})
	send := func(signature []byte) *http.Request {
		return post(url, form, "Content-Type", formHeader, "X-Twilio-Signature", base64.StdEncoding.EncodeToString(signature))
	}
	accept(t, wh, send(mac(sha1.New, "k", url, "A1B2")))
	accept(t, wh, send(mac(sha256.New, "k", url, "A1B2")))
	for _, wrong := range [][]byte{mac(sha1.New, "x", url, "A1B2"), mac(sha256.New, "x", url, "A1B2"), mac(sha256.New, "k", url, "A1B2")[:20], nil} {
		if _, err := receive(wh, send(wrong)); err == nil {
			t.Errorf("%x was taken", wrong)
		}
	}
}

func TestHubSpotSignsDecodedURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "hubspot", Secrets: []string{"k"}})
		now := fmt.Sprint(time.Now().UnixMilli())
		const body = `[{"subscriptionType":"deal.creation","eventId":1},{"subscriptionType":"deal.deletion","eventId":1}]`
		for _, signed := range []string{"https://example.com/t?a=b%40c%3ad%20e", "https://example.com/t?a=b@c:d%20e"} {
			d, err := receiveDelivery(wh, post("https://example.com/t?a=b%40c%3ad%20e", body,
				"X-HubSpot-Request-Timestamp", now, "X-HubSpot-Signature-v3", b64MAC("k", "POST", signed, body, now)))
			if err != nil || len(d.Messages) != 2 || d.Messages[1].Event.Name != "deal.deletion" || d.ID != "" {
				t.Errorf("%s: %+v, %v", signed, d, err)
			}
		}
	})
}

func TestUnsignedPingsGet200(t *testing.T) {
	woo := verified(t, webhook.Verify{Sender: "woocommerce", Secrets: []string{"k"}})
	bitbucket := verified(t, webhook.Verify{Sender: "bitbucket-data-center", Secrets: []string{"k"}})
	for _, tc := range []struct {
		wh *webhook.Webhook
		r  *http.Request
	}{
		{woo, post("/t", "webhook_id=12", "Content-Type", formHeader)},
		{bitbucket, post("/t", `{"test":true}`, "X-Event-Key", "diagnostics:ping", "Content-Type", "application/json")},
	} {
		d, err := receiveDelivery(tc.wh, tc.r)
		if err != nil || d.HandshakeResponse == nil || d.HandshakeResponse.Status != 200 || len(d.Messages) > 0 {
			t.Errorf("%+v, %v", d, err)
		}
	}
	for _, body := range []string{"webhook_id=x", "webhook_id=1&a=b", "", "a=" + strings.Repeat("x", 1<<20-2)} {
		refuse(t, woo, post("/t", body, "Content-Type", formHeader), 401, "X-WC-Webhook-Signature missing")
	}
	refuse(t, woo, post("/t", "webhook_id=1", "Content-Type", formHeader, "X-WC-Webhook-Signature", "AA=="), 401, "wrong")
	refuse(t, bitbucket, post("/t", `{"test":true}`, "X-Event-Key", "repo:refs_changed"), 401, "X-Hub-Signature missing")
	// The whole body is still there for the signature.
	const order = "webhook_id=1&order=7"
	if got := accept(t, woo, post("/t", order, "Content-Type", formHeader, "X-WC-Webhook-Signature", b64MAC("k", order))); string(got.Event.Data) != order {
		t.Errorf("%s", got.Event.Data)
	}
}

func TestEventGridIsToldToSendCloudEvents(t *testing.T) {
	const validation = `[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]`
	for _, verify := range []webhook.Verify{
		{Sender: "cloudevents", Secrets: []string{"k"}}, {Sender: "token", Header: "X-Token", Secrets: []string{"k"}}, {Sender: "none"},
	} {
		r := post("/t", validation, "Aeg-Event-Type", "SubscriptionValidation", "Content-Type", "application/json")
		refuse(t, verified(t, verify), r, 400, `choose the event schema "Cloud Event Schema v1.0"`)
	}
	wh := verified(t, webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}})
	refuse(t, wh, post("/t", `[{"eventType":"x"}]`, "Aeg-Event-Type", "Notification", "Authorization", "Bearer k", "Content-Type", "application/json"), 400, "Cloud Event Schema")
	accept(t, wh, post("/t", `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`, "Aeg-Event-Type", "Notification", "Authorization", "Bearer k", "Content-Type", "application/cloudevents+json; charset=utf-8"))
	github := verified(t, webhook.Verify{Sender: "github", Secrets: []string{"k"}})
	accept(t, github, post("/t", "[]", "Aeg-Event-Type", "SubscriptionValidation", "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", "[]")))
}

func TestAuth0LogsAreEvents(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "auth0", Secrets: []string{"k"}})
	const first, second = `{"data":{"type":"s"},"log_id":"90020"}`, `{"data":{"type":"fp"},"log_id":"90021"}`
	for contentType, body := range map[string]string{"application/json": "[" + first + "," + second + "]", "application/jsonl": first + "\n" + second} {
		if got := events(t, wh, post("/t", body, "Authorization", "k", "Content-Type", contentType)); got != "t s 90020 "+first+"\nt fp 90021 "+second {
			t.Errorf("%s: %s", contentType, got)
		}
	}
	refuse(t, wh, post("/t", "[]", "Authorization", "Bearer k"), 401, "the token is wrong")
}
