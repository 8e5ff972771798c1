package webhook_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// vector is a request that a vendor, or the vendor's own library, has published
// with its signature.
type vector struct {
	sender, secret string
	url            string
	at             int64 // zero: nothing says when it was signed
	body           string
	header         []string
	event, id      string
}

const (
	slackForm = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"

	twilioURL  = "https://mycompany.com/myapp.php?foo=1&bar=2"
	twilioForm = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
	twilioJSON = `{"property": "value", "boolean": true}`
	twilioHash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"

	sendGridKey       = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
	sendGridSignature = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
	sendGridBody      = `[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]` + "\r\n"
)

func twilioVector(url, body, contentType, signature string) vector {
	return vector{
		sender: "twilio", secret: "12345", url: url, body: body,
		header: []string{"Content-Type", contentType, "X-Twilio-Signature", signature},
	}
}

var vectors = map[string]vector{
	// docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation".
	"github": {
		sender: "github", secret: githubSecret, body: githubBody,
		header: []string{"X-Hub-Signature-256", githubSignature, "X-GitHub-Event", "push", "X-GitHub-Delivery", "d1"},
		event:  "push", id: "d1",
	},
	// support.atlassian.com, "Manage webhooks", "Test your webhook signature".
	"bitbucket": {
		sender: "bitbucket", secret: "It's a Secret to Everybody", body: "Hello World!",
		header: []string{"X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
			"X-Event-Key", "repo:push", "X-Request-UUID", "u1"},
		event: "repo:push", id: "u1",
	},
	// docs.slack.dev, "Verifying requests from Slack": its worked example.
	"slack": {
		sender: "slack", secret: "8f742231b10e8888abcd99yyyzzz85a5", at: 1531420618, body: slackForm,
		header: []string{"X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
			"X-Slack-Request-Timestamp", "1531420618", "Content-Type", "application/x-www-form-urlencoded"},
	},
	// github.com/standard-webhooks/standard-webhooks: the vector of all its libraries.
	"standard-webhooks": {
		sender: "standard-webhooks", secret: "whsec_" + standardKey, at: standardTime, body: standardBody,
		header: []string{"webhook-id", standardID, "webhook-timestamp", strconv.Itoa(standardTime), "webhook-signature", standardSignature},
		id:     standardID,
	},
	// github.com/svix/svix-webhooks: the same one, under its own headers.
	"svix": {
		sender: "svix", secret: "whsec_" + standardKey, at: standardTime, body: standardBody,
		header: []string{"svix-id", standardID, "svix-timestamp", strconv.Itoa(standardTime), "svix-signature", standardSignature},
		id:     standardID,
	},
	// github.com/sendgrid/sendgrid-go, helpers/eventwebhook/eventwebhook_test.go.
	"sendgrid": {
		sender: "sendgrid", secret: sendGridKey, at: 1600112502, body: sendGridBody,
		header: []string{"X-Twilio-Email-Event-Webhook-Signature", sendGridSignature, "X-Twilio-Email-Event-Webhook-Timestamp", "1600112502"},
		event:  "dropped", id: "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
	},
	// twilio.com/docs, "Webhooks security", and with the other signatures
	// github.com/twilio/twilio-php, tests/Twilio/Unit/Security/RequestValidatorTest.php.
	"twilio":                    twilioVector(twilioURL, twilioForm, "application/x-www-form-urlencoded", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
	"twilio with a port":        twilioVector("https://mycompany.com:1234/myapp.php?foo=1&bar=2", twilioForm, "application/x-www-form-urlencoded", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
	"twilio with the usual one": twilioVector(twilioURL, twilioForm, "application/x-www-form-urlencoded", "kvajT1Ptam85bY51eRf/AJRuM3w="),
	"twilio without TLS":        twilioVector("http://mycompany.com/myapp.php?foo=1&bar=2", twilioForm, "application/x-www-form-urlencoded", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
	"twilio, a field twice":     twilioVector(twilioURL, "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234", "application/x-www-form-urlencoded", "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
	// github.com/square/square-nodejs-sdk, test/unit/webhooksHelper.test.ts.
	"square": {
		sender: "square", secret: "Ibxx_5AKakO-3qeNVR61Dw", url: "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9",
		body:   `{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification","event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z","data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}`,
		header: []string{"X-Square-Hmacsha256-Signature", "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4="},
		event:  "webhooks.test_notification", id: "ac3ac95b-f97d-458c-a6e6-18981597e05f",
	},
	// github.com/slick-teams/hubspot-api, HubSpotWebHookSignatureUtilsTest.
	"hubspot": {
		sender: "hubspot", secret: "3da21a3d-5964-494c-a638-c56abb76d825", url: "https://api.beta/webhooks", at: 1704975585,
		body:   `[{"eventId":100,"subscriptionId":2439752,"portalId":8136442,"occurredAt":1704970386905,"subscriptionType":"deal.propertyChange","attemptNumber":0,"objectId":123,"changeSource":"CRM","propertyName":"dealstage","propertyValue":"sample-value"}]`,
		header: []string{"X-HubSpot-Signature-v3", "IirHW2rKOnmjwy3EF7Czp86mGntxQZVDVhKTlGj5jx8=", "X-HubSpot-Request-Timestamp", "1704975585199"},
		event:  "deal.propertyChange",
	},
	// With the secret that Zendesk's documents give for tests.
	"zendesk": {
		sender: "zendesk", secret: "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==", at: 1616648967,
		body:   `{"event":"ticket.updated","id":123}`,
		header: []string{"X-Zendesk-Webhook-Signature", "S/RDdU2ERmj7LHDDoWJ2onPYH+t7/f2+LTM4dL7UiLM=", "X-Zendesk-Webhook-Signature-Timestamp", "2021-03-25T05:09:27Z"},
	},
	"twilio with JSON": twilioVector(twilioURL+"&bodySHA256="+twilioHash, twilioJSON, "application/json", "a9nBmqA0ju/hNViExpshrM61xv4="),
}

// request returns the vector's request, with a change to its body.
func (v vector) request(change func(string) string) *http.Request {
	url := "/hooks"
	if v.url != "" {
		url = v.url
	}
	return post(url, change(v.body), v.header...)
}

func same(s string) string { return s }

func (v vector) during(t *testing.T, f func(t *testing.T)) {
	if v.at == 0 {
		f(t)
		return
	}
	at(t, v.at, f)
}

func TestPublishedVectorsAreAccepted(t *testing.T) {
	for name, v := range vectors {
		t.Run(name, func(t *testing.T) {
			v.during(t, func(t *testing.T) {
				wh := verified(t, webhook.Verify{Sender: v.sender, Secrets: []string{v.secret}})
				got := accept(t, wh, v.request(same)).Event
				if got.Name != v.event || got.ID != v.id {
					t.Errorf("the event is %q with the id %q, want %q and %q", got.Name, got.ID, v.event, v.id)
				}
			})
		})
	}
}

func TestPublishedVectorWithOneByteChangedIsRefused(t *testing.T) {
	for name, v := range vectors {
		t.Run(name, func(t *testing.T) {
			v.during(t, func(t *testing.T) {
				wh := verified(t, webhook.Verify{Sender: v.sender, Secrets: []string{v.secret}})
				for _, i := range []int{0, len(v.body) / 2, len(v.body) - 1} {
					refuse(t, wh, v.request(func(s string) string { return s[:i] + string(s[i]^1) + s[i+1:] }), 401, "the signature is wrong")
				}
				for i := range v.header {
					if !strings.Contains(strings.ToLower(v.header[i]), "signature") {
						continue
					}
					for _, bad := range []string{"", "x", v.header[i+1][:len(v.header[i+1])-5], strings.ToUpper(v.header[i+1]) + "A", strings.Repeat("=", 50)} {
						changed := v
						changed.header = slices.Clone(v.header)
						changed.header[i+1] = bad
						if _, err := receive(wh, changed.request(same)); err == nil {
							t.Errorf("taken with the signature %q", bad)
						}
					}
					twice := v
					twice.header = append(slices.Clone(v.header), v.header[i], v.header[i+1])
					refuse(t, wh, twice.request(same), 401, "comes more than once")
				}
			})
		})
	}
}

func TestPublishedVectorIsRefusedOutsideItsTime(t *testing.T) {
	for name, v := range vectors {
		if v.at == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for offset, words := range map[int64]string{301: "more than 5m0s ago", -301: "more than 5m0s ahead"} {
				at(t, v.at+offset, func(t *testing.T) {
					refuse(t, verified(t, webhook.Verify{Sender: v.sender, Secrets: []string{v.secret}}), v.request(same), 401, words)
					accept(t, verified(t, webhook.Verify{Sender: v.sender, Secrets: []string{v.secret}, Tolerance: caddy.Duration(time.Hour)}), v.request(same))
				})
			}
		})
	}
}

func b64MAC(key string, parts ...string) string {
	return base64.StdEncoding.EncodeToString(mac(sha256.New, key, parts...))
}

// These vendors publish how they sign, but no request with its signature.
func TestEverySenderIsVerifiedByName(t *testing.T) {
	const body = `{"type":"invoice.paid","id":"evt_1","event_type":"transaction.paid","event_id":"ev_1","event":"meeting.started",` +
		`"object_kind":"push","object":"page","project":{"path_with_namespace":"ann/shop"},"repository":{"full_name":"ann/shop","slug":"app","project":{"key":"SHOP"}},"webhookTimestamp":946684800000}`
	const now = "946684800" // when a bubble's clock begins
	for sender, tc := range map[string]struct {
		header    []string
		event, id string
		topics    string
		status    int
	}{
		"stripe": {[]string{"Stripe-Signature", "t=" + now + ",v1=" + hexMAC(sha256.New, "k", now, ".", body) + ",v0=00"}, "invoice.paid", "evt_1", "hooks/a", 0},
		"paddle": {[]string{"Paddle-Signature", "ts=" + now + ";h1=" + hexMAC(sha256.New, "k", now, ":", body)}, "transaction.paid", "ev_1", "hooks/a", 200},
		"gitlab": {[]string{"X-Gitlab-Token", "k", "Idempotency-Key", "i1"}, "push", "i1", "hooks/a gitlab/ann/shop", 0},
		"gitea": {[]string{"X-Gitea-Signature", hexMAC(sha256.New, "k", body), "X-Gitea-Event", "push", "X-Gitea-Delivery", "d1"},
			"push", "d1", "hooks/a gitea/ann/shop", 0},
		"github": {[]string{"X-Hub-Signature-256", "sha256=" + hexMAC(sha256.New, "k", body), "X-GitHub-Event", "push"},
			"push", "", "hooks/a github/ann/shop", 0},
		"bitbucket": {[]string{"X-Hub-Signature", "sha256=" + hexMAC(sha256.New, "k", body), "X-Event-Key", "repo:push"},
			"repo:push", "", "hooks/a bitbucket/ann/shop", 0},
		"shopify": {[]string{"X-Shopify-Hmac-SHA256", b64MAC("k", body), "X-Shopify-Topic", "orders/create"}, "orders/create", "", "hooks/a", 0},
		"meta":    {[]string{"X-Hub-Signature-256", "sha256=" + hexMAC(sha256.New, "k", body)}, "page", "", "hooks/a", 200},
		"websub":  {[]string{"X-Hub-Signature", "sha256=" + hexMAC(sha256.New, "k", body)}, "", "", "hooks/a", 0},
		"zoom": {[]string{"X-Zm-Request-Timestamp", now, "X-Zm-Signature", "v0=" + hexMAC(sha256.New, "k", "v0:", now, ":", body)},
			"meeting.started", "", "hooks/a", 200},
		"pagerduty": {[]string{"X-PagerDuty-Signature", "v1=00,v1=" + hexMAC(sha256.New, "k", body)}, "", "", "hooks/a", 0},
		"woocommerce": {[]string{"X-WC-Webhook-Signature", b64MAC("k", body), "X-WC-Webhook-Topic", "order.created", "X-WC-Webhook-Delivery-ID", "w1"},
			"order.created", "w1", "hooks/a", 200},
		"bitbucket-data-center": {[]string{"X-Hub-Signature", "sha256=" + hexMAC(sha256.New, "k", body), "X-Event-Key", "repo:refs_changed", "X-Request-Id", "r1"},
			"repo:refs_changed", "r1", "hooks/a bitbucket/SHOP/app", 0},
		"linear":      {[]string{"Linear-Signature", hexMAC(sha256.New, "k", body), "Linear-Delivery", "l1"}, "invoice.paid", "l1", "hooks/a", 200},
		"x":           {[]string{"X-Twitter-Webhooks-Signature", "sha256=" + b64MAC("k", body)}, "", "", "hooks/a", 200},
		"cloudevents": {[]string{"Authorization", "bearer k"}, "invoice.paid", "", "hooks/a", 0},
	} {
		t.Run(sender, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wh := verified(t, webhook.Verify{Sender: sender, Secrets: []string{"old", "k"}})
				delivery, err := receiveDelivery(wh, post("/hooks/a", body, tc.header...))
				if err != nil || len(delivery.Messages) != 1 {
					t.Fatalf("%+v, %v", delivery, err)
				}
				got := delivery.Messages[0]
				if got.Event.Name != tc.event || got.Event.ID != tc.id || !strings.HasPrefix(delivery.ID, tc.id) || strings.Join(got.Topics, " ") != tc.topics ||
					delivery.Status != tc.status || string(got.Event.Data) != body {
					t.Errorf("%+v", delivery)
				}
				if sender != "gitlab" && sender != "cloudevents" && sender != "auth0" {
					refuse(t, wh, post("/hooks/a", body+" ", tc.header...), 401, "the signature is wrong")
				}
				refuse(t, verified(t, webhook.Verify{Sender: sender, Secrets: []string{"K"}}), post("/hooks/a", body, tc.header...), 401, "is wrong")
				refuse(t, wh, post("/hooks/a", body), 401, "missing")
				twice := post("/hooks/a", body, append(tc.header, tc.header[0], "x")...)
				twice.Header.Add(tc.header[2%len(tc.header)], "x")
				refuse(t, wh, twice, 401, "comes more than once")
			})
		})
	}
}

func TestShopifyEventHasOneIDPerTopic(t *testing.T) {
	id := func(topic string) string {
		wh := verified(t, webhook.Verify{Sender: "shopify", Secrets: []string{"k"}})
		return accept(t, wh, post("/t", "{}", "X-Shopify-Hmac-SHA256", b64MAC("k", "{}"), "X-Shopify-Topic", topic, "X-Shopify-Event-Id", "e1")).Event.ID
	}
	created, paid, again := id("orders/create"), id("orders/paid"), id("orders/paid")
	if created == paid || paid != again {
		t.Error(created, paid, again)
	}
}

func TestSecondTimeInSignatureHeaderIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "stripe", Secrets: []string{"k"}})
		sign := func(t string) string { return "v1=" + hexMAC(sha256.New, "k", t, ".{}") }
		const now, old = "946684800", "946684000"
		for _, good := range []string{
			"t=" + now + "," + sign(now), sign(now) + ",t=" + now, "t=" + now + ",v1=00,v1=x," + sign(now) + ",v0=x", " t=" + now + " , " + sign(now),
		} {
			accept(t, wh, post("/t", "{}", "Stripe-Signature", good))
		}
		for header, words := range map[string]string{
			"t=" + old + "," + sign(old):               "more than 5m0s ago",
			"t=" + now + "," + sign(old):               "the signature is wrong",
			"t=" + old + ",t=" + now + "," + sign(now): "the signature is wrong",
			sign(""):                            "is not a time",
			"t=," + sign(""):                    "is not a time",
			"t=" + now + ",v0=" + sign(now)[3:]: "the signature is wrong",
			"t=" + now + ";" + sign(now):        "the signature is wrong",
			strings.Repeat("v1=00,", 20) + "t=" + now + "," + sign(now): "the signature is wrong",
		} {
			refuse(t, wh, post("/t", "{}", "Stripe-Signature", header), 401, words)
		}
	})
}

func TestDeliveryIDComesFromSignedHeaders(t *testing.T) {
	v := vectors["svix"]
	at(t, v.at, func(t *testing.T) {
		for _, sender := range []string{"svix", "standard-webhooks"} {
			wh := verified(t, webhook.Verify{Sender: sender, Secrets: []string{v.secret}})
			for _, headers := range [][]string{v.header, vectors["standard-webhooks"].header} {
				if got := accept(t, wh, post("/hooks", v.body, headers...)).Event.ID; got != standardID {
					t.Errorf("%s: %q", sender, got)
				}
				for _, name := range []string{"Webhook-Id", "Svix-Id", "Webhook-Timestamp", "Svix-Signature"} {
					r := post("/hooks", v.body, headers...)
					if r.Header.Get(name) == "" {
						r.Header.Set(name, "forged")
						refuse(t, wh, r, 401, "headers of two kinds")
					}
				}
			}
		}
	})
}

func TestTwilioSignatureCoversURLThatTwilioSees(t *testing.T) {
	v := vectors["twilio"]
	wh := verified(t, webhook.Verify{Sender: "twilio", Secrets: []string{v.secret}, URL: "https://mycompany.com{http.request.orig_uri}"})
	for _, url := range []string{"http://10.0.0.1:8080/myapp.php?foo=1&bar=2", "https://mycompany.com/myapp.php?foo=1&bar=2"} {
		r := v
		r.url = url
		accept(t, wh, r.request(same))
	}
	for _, url := range []string{"https://mycompany.com/myapp.php?foo=1&bar=3", "https://mycompany.com/myapp.php"} {
		r := v
		r.url = url
		refuse(t, wh, r.request(same), 401, "the signature is wrong")
	}
	behind := v
	behind.url = "http://mycompany.com/myapp.php?foo=1&bar=2"
	behind.header = append(slices.Clone(v.header), "X-Forwarded-Proto", "https")
	refuse(t, verified(t, webhook.Verify{Sender: "twilio", Secrets: []string{v.secret}}), behind.request(same), 401, "the signature is wrong")
}

func TestTwilioBodyWithoutDigestIsRefusedUnlessForm(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "twilio", Secrets: []string{"k"}})
	const url = "https://example.com/t"
	signature := base64.StdEncoding.EncodeToString(mac(sha1.New, "k", url))
	accept(t, wh, post(url, "", "X-Twilio-Signature", signature))
	refuse(t, wh, post(url, "{}", "X-Twilio-Signature", signature, "Content-Type", "application/json"), 401, "the signature is wrong")
	refuse(t, wh, post(url, "a=%zz", "X-Twilio-Signature", signature, "Content-Type", "application/x-www-form-urlencoded"), 401, "the signature is wrong")
}

func TestDiscordSignatureCoversTimeAndBody(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const body = `{"version":1,"type":1,"event":{"type":"ENTITLEMENT_CREATE"}}`
		now := strconv.FormatInt(time.Now().Unix(), 10)
		request := func(signed string) *http.Request {
			signature := hex.EncodeToString(ed25519.Sign(private, []byte(signed)))
			return post("/t", body, "X-Signature-Ed25519", signature, "X-Signature-Timestamp", now)
		}
		wh := verified(t, webhook.Verify{Sender: "discord", Secrets: []string{strings.Repeat("00", 32), hex.EncodeToString(public)}})
		delivery, err := receiveDelivery(wh, request(now+body))
		if err != nil || delivery.Status != 204 || len(delivery.Messages) != 1 || delivery.Messages[0].Event.Name != "ENTITLEMENT_CREATE" {
			t.Errorf("%+v, %v", delivery, err)
		}
		refuse(t, wh, request(now+body+" "), 401, "the signature is wrong")
		refuse(t, wh, request(body), 401, "the signature is wrong")
		other := verified(t, webhook.Verify{Sender: "discord", Secrets: []string{strings.Repeat("ab", 32)}})
		refuse(t, other, request(now+body), 401, "the signature is wrong")
	})
}

func TestKeyOfWrongKindIsAnError(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := func(key any) string {
		bytes, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(bytes)
	}
	verified(t, webhook.Verify{Sender: "sendgrid", Secrets: []string{der(&p384.PublicKey)}})
	verified(t, webhook.Verify{Sender: "sendgrid", Secrets: []string{"-----BEGIN PUBLIC KEY-----\n" + sendGridKey[:64] + "\n" + sendGridKey[64:] + "\n-----END PUBLIC KEY-----\n"}})
	for _, tc := range []struct{ sender, secret, words string }{
		{"sendgrid", "hunter2", "not a public key"},
		{"sendgrid", der(other), "not a public key for ECDSA"},
		{"sendgrid", "aHVudGVyMg==", "not a public key"},
		{"discord", "hunter2", "not a public key in hex"},
		{"discord", "abcd", "not the 32 of an Ed25519 public key"},
	} {
		err := mistake(t, webhook.Webhook{Verify: &webhook.Verify{Sender: tc.sender, Secrets: []string{tc.secret}}})
		if err == nil || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", tc.sender, err, tc.words)
		}
	}
}

func TestTokenIsComparedAsAWhole(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "token", Header: "x-token", Secrets: []string{"old", "new"}, Prefix: "Key "})
	for _, token := range []string{"Key old", "Key new", "key new"} {
		accept(t, wh, post("/t", "x", "X-Token", token))
	}
	for _, token := range []string{"new", "Key ", "Key  new", "Key new ", "Key ne", "Key newer", "Key NEW", "Key old new"} {
		refuse(t, wh, post("/t", "x", "X-Token", token), 401, "the token is wrong")
	}
	refuse(t, wh, post("/t", "x"), 401, "header x-token missing")
	refuse(t, wh, post("/t", "x", "X-Token", "Key new", "X-Token", "Key new"), 401, "comes more than once")
}

func TestBasicNeedsUserAndPassword(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("pa:ss"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	wh := verified(t, webhook.Verify{Sender: "basic", User: "ann", Secrets: []string{string(hash)}})
	request := func(user, pass string) *http.Request {
		r := post("/t", "x")
		r.SetBasicAuth(user, pass)
		return r
	}
	for range 2 { // the second time it is known
		accept(t, wh, request("ann", "pa:ss"))
		for _, wrong := range [][2]string{{"ann", "pa"}, {"ann", ""}, {"bob", "pa:ss"}, {"Ann", "pa:ss"}, {"", ""}} {
			refuse(t, wh, request(wrong[0], wrong[1]), 401, "the user or the password is wrong")
		}
	}
	refuse(t, wh, post("/t", "x"), 401, "header Authorization missing")
	refuse(t, wh, post("/t", "x", "Authorization", "Bearer x"), 401, "not of the kind Basic")
	twice := request("ann", "pa:ss")
	twice.Header.Add("Authorization", "x")
	refuse(t, wh, twice, 401, "comes more than once")
}

func TestBasicAcceptsBcryptAndArgon2Hashes(t *testing.T) {
	bcrypted, err := bcrypt.GenerateFromPassword([]byte("first"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	argon := string(caddyauth.Argon2idHash{}.FakeHash()) // of the password that its comment names
	wh := verified(t, webhook.Verify{Sender: "basic", User: "ann", Secrets: []string{string(bcrypted), argon}})
	for _, pass := range []string{"first", "antitiming", "first"} {
		r := post("/t", "x")
		r.SetBasicAuth("ann", pass)
		accept(t, wh, r)
	}
}

func TestEveryGraphNotificationNeedsClientState(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "microsoft-graph", Secrets: []string{"s1", "s2"}})
	delivery, err := receiveDelivery(wh, post("/t", `{"value":[{"clientState":"s1","changeType":"created","n":1},{"clientState":"s2","changeType":"deleted","n":2}]}`))
	if err != nil || len(delivery.Messages) != 2 || delivery.Messages[1].Event.Name != "deleted" ||
		string(delivery.Messages[0].Event.Data) != `{"changeType":"created","n":1}` {
		t.Errorf("%+v, %v", delivery, err)
	}
	for _, body := range []string{
		``, `{}`, `[]`, `{"value":[]}`, `{"value":{}}`, `{"value":[{}]}`, `{"value":[{"clientState":"s"}]}`, `{"value":[{"clientState":["s1"]}]}`,
		`{"value":[{"clientState":"s1"},{"clientState":"x"}]}`, `{"value":[{"clientState":"x"},{"clientState":"s1"}]}`, `{"value":[{"clientState":"s1"},{}]}`,
		`{"value":[{"clientState":"s1"}]`, strings.Repeat("[", 100_000),
	} {
		refuse(t, wh, post("/t", body), 401, "clientState is wrong or missing")
	}
}

func TestSenderOptionErrorSaysWhatToWrite(t *testing.T) {
	for _, tc := range []struct {
		verify webhook.Verify
		words  string
	}{
		{webhook.Verify{Sender: "token"}, "write `verify token X-Token {env.WEBHOOK_TOKEN}`"},
		{webhook.Verify{Sender: "token", Header: "X-Token"}, "write `verify token X-Token {env.WEBHOOK_TOKEN}`"},
		{webhook.Verify{Sender: "token", Header: "X Token", Secrets: []string{"k"}}, "is not the name of a header"},
		{webhook.Verify{Sender: "basic"}, "write `verify basic <user> <hash>`"},
		{webhook.Verify{Sender: "basic", User: "ann"}, "write `verify basic <user> <hash>`"},
		{webhook.Verify{Sender: "basic", Secrets: []string{"x"}}, "write `verify basic <user> <hash>`"},
		{webhook.Verify{Sender: "basic", User: "ann", Secrets: []string{"hunter2"}}, "make one with `caddy hash-password`"},
		{webhook.Verify{Sender: "basic", User: "ann", Secrets: []string{"$argon2id$hunter2"}}, "make one with `caddy hash-password`"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, URL: "x"}, "it takes no url; only `verify twilio`, `hubspot`, `square` or `hmac` does"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, User: "x"}, "it takes no user; only `verify basic` does"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Hosts: []string{"x"}}, "it takes no hosts; only `verify sns` does"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Challenge: []string{"x"}}, "it takes no challenge; only `verify meta`, `websub` or `cloudevents` does"},
		{webhook.Verify{Sender: "twilio", Secrets: []string{"k"}, URL: "{"}, "url `{`"},
		{webhook.Verify{Sender: "meta", Secrets: []string{"k"}, Challenge: []string{""}}, "challenge 1 is empty"},
		{webhook.Verify{Sender: "hmac", Header: "X", Secrets: []string{"k"}, Algorithm: "ecdsa"}, `unknown algorithm "ecdsa"`},
		{webhook.Verify{Sender: "sns"}, "write `verify sns arn:aws:sns:us-east-1:123456789012:orders`"},
		{webhook.Verify{Sender: "sns", Secrets: []string{"orders"}}, "is not the name of a topic"},
		{webhook.Verify{Sender: "sns", Secrets: []string{"arn:x"}, Hosts: []string{"https://x/y"}}, "is not a host"},
	} {
		err := mistake(t, webhook.Webhook{Verify: &tc.verify})
		if err == nil || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v, want %q", tc.verify, err, tc.words)
		}
	}
}

func TestHMACAcceptsSHA512InBase64(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "hmac", Header: "X", Secrets: []string{"k"}, Algorithm: "sha512", Encoding: "base64"})
	accept(t, wh, post("/t", "x", "X", base64.StdEncoding.EncodeToString(mac(sha512.New, "k", "x"))))
}

func TestEverySenderHasARowInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "### Senders")
	table, _, _ = strings.Cut(table, "### Handshakes")
	for name := range everySender(t) {
		if !regexp.MustCompile(`(?m)^\| .{0,120}` + "`" + name + "`").MatchString(table) {
			t.Errorf("%s has none", name)
		}
	}
}

func TestWebSubHubChoosesAlgorithm(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "websub", Secrets: []string{"old", "k"}})
	const feed = `<feed xmlns="http://www.w3.org/2005/Atom"/>`
	request := func(signature string) *http.Request {
		return post("/t", feed, "Content-Type", "application/atom+xml", "X-Hub-Signature", signature)
	}
	for method, newHash := range map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New} {
		signature := hexMAC(newHash, "k", feed)
		accept(t, wh, request(method+"="+signature)) // sha1= is what YouTube's hub sends
		for _, wrong := range []string{
			method + "=" + hexMAC(newHash, "x", feed), method + "=", method + signature, signature, "md5=" + signature, method + "=" + signature + "," + method + "=" + signature,
		} {
			refuse(t, wh, request(wrong), 401, "the signature is wrong")
		}
		for _, other := range []string{"sha1=", "sha256=", "sha384=", "sha512="} {
			if other != method+"=" {
				refuse(t, wh, request(other+signature), 401, "the signature is wrong")
			}
		}
	}
}

func TestUnknownPlaceholderIsNotASecret(t *testing.T) {
	for _, secret := range []string{"{GITHUB_SECRET}", " {GITHUB_SECRET} ", "{$GITHUB_SECRET}", "{}"} {
		err := (&webhook.Webhook{Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k", secret}}}).Provision(caddy.NewReplacer())
		if err == nil || !strings.Contains(err.Error(), "secret 2 is") || !strings.Contains(err.Error(), "write `{env.NAME}`") || strings.Contains(err.Error(), "GITHUB") {
			t.Errorf("%s: %v", secret, err)
		}
	}
	for _, secret := range []string{"a{b}", "{a}b", "{a}{b}", "{", "}{"} {
		verified(t, webhook.Verify{Sender: "github", Secrets: []string{secret}})
	}
}

func TestCloudEventSourceWithSpaceIsRefused(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}})
	structured := func(source string) *http.Request {
		return post("/t", `{"specversion":"1.0","type":"t","id":"c","source":"`+source+`"}`, "Authorization", "Bearer k", "Content-Type", "application/cloudevents+json")
	}
	refuse(t, wh, structured("a b"), 400, "source has a space in it")
	refuse(t, wh, post("/t", "", "Authorization", "Bearer k", "Ce-Specversion", "1.0", "Ce-Type", "t", "Ce-Id", "c", "Ce-Source", "a%20b"), 400, "source has a space in it")
	accept(t, wh, structured("a%20b"))
}

func TestSlackResponseHasNoBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "slack", Secrets: []string{"k"}})
		r := signedBy("slack", "k", "command=%2Fdeploy")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if delivery, err := receiveDelivery(wh, r); err != nil || delivery.Status != 200 || !delivery.NoBody {
			t.Errorf("%+v, %v", delivery, err)
		}
	})
}
