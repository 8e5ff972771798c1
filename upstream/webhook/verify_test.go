package webhook_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func verified(t testing.TB, verify webhook.Verify) *webhook.Webhook {
	t.Helper()
	return provision(t, webhook.Webhook{Verify: &verify})
}

// mac signs independently of the code under test.
func mac(newHash func() hash.Hash, key string, parts ...string) []byte {
	h := hmac.New(newHash, []byte(key))
	h.Write([]byte(strings.Join(parts, "")))
	return h.Sum(nil)
}

func hexMAC(newHash func() hash.Hash, key string, parts ...string) string {
	return hex.EncodeToString(mac(newHash, key, parts...))
}

const (
	githubSecret = "It's a Secret to Everybody"
	githubBody   = "Hello, World!"
	// docs.github.com, "Testing the webhook payload validation".
	githubSignature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
)

func TestPublishedGitHubExampleIsAccepted(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{githubSecret}})
	message := accept(t, wh, post("/hooks", githubBody,
		"X-Hub-Signature-256", githubSignature, "X-GitHub-Event", "issues",
		"X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"))
	if got := message.Event; got.Name != "issues" || got.ID != "72d3162e-cc78-11e3-81ab-4c9367dc0958" || string(got.Data) != githubBody {
		t.Errorf("%+v", got)
	}
}

const (
	standardKey  = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	standardID   = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	standardTime = 1614265330
	standardBody = `{"test": 2432232314}`
	// The vector that all of the Standard Webhooks libraries are tested with.
	standardSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func standardPost(signature string) *http.Request {
	return post("/hooks", standardBody, "webhook-id", standardID,
		"webhook-timestamp", strconv.Itoa(standardTime), "webhook-signature", signature)
}

// at runs f at a time. A bubble's clock starts at midnight UTC 2000-01-01.
func at(t *testing.T, unix int64, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(unix, 0)))
		f(t)
	})
}

func TestPublishedStandardWebhooksVectorIsAccepted(t *testing.T) {
	for _, secret := range []string{"whsec_" + standardKey, standardKey} {
		at(t, standardTime, func(t *testing.T) {
			wh := verified(t, webhook.Verify{Sender: "standard-webhooks", Secrets: []string{secret}})
			got := accept(t, wh, standardPost(standardSignature)).Event
			if got.ID != standardID || got.Name != "" || string(got.Data) != standardBody {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestOneStandardWebhooksSignatureOfSeveralSuffices(t *testing.T) {
	const wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	at(t, standardTime, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "standard-webhooks", Secrets: []string{standardKey}})
		for _, signatures := range []string{
			wrong + " " + standardSignature,
			standardSignature + " " + wrong,
			"v1a,abc v2," + strings.TrimPrefix(standardSignature, "v1,") + "  garbage v1, " + standardSignature,
		} {
			accept(t, wh, standardPost(signatures))
		}
		for _, signatures := range []string{
			wrong, wrong + " " + wrong, "v1,", "v1", " ", "v2," + standardSignature[3:], standardSignature[3:], standardSignature + "," + wrong,
		} {
			refuse(t, wh, standardPost(signatures), 401, "the signature is wrong")
		}
	})
}

func TestStandardWebhooksLibrarySignatureIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer, err := standardwebhooks.NewWebhook(standardKey)
		if err != nil {
			t.Fatal(err)
		}
		const body = `{"type":"invoice.paid","data":{}}`
		signature, err := signer.Sign("msg_1", time.Now(), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		r := post("/", body, standardwebhooks.HeaderWebhookID, "msg_1", standardwebhooks.HeaderWebhookSignature, signature,
			standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(time.Now().Unix(), 10))
		wh := provision(t, webhook.Webhook{
			Topics: []string{"t"},
			Verify: &webhook.Verify{Sender: "standard-webhooks", Secrets: []string{"whsec_" + standardKey}},
		})
		if got := accept(t, wh, r).Event; got.Name != "invoice.paid" || got.ID != "msg_1" {
			t.Errorf("%+v", got)
		}
	})
}

func TestStandardWebhooksTypeNamesEventOnlyIfText(t *testing.T) {
	for body, want := range map[string]string{
		`{"type":"a.b"}`: "a.b", `{"type":{}}`: "", `{"type":[1]}`: "", `[]`: "", `no JSON`: "", ``: "",
	} {
		synctest.Test(t, func(t *testing.T) {
			now := strconv.FormatInt(time.Now().Unix(), 10)
			sum := mac(sha256.New, "key", "1.", now, ".", body)
			r := post("/t", body, "webhook-id", "1", "webhook-timestamp", now,
				"webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(sum))
			wh := verified(t, webhook.Verify{Sender: "standard-webhooks", Secrets: []string{"whsec_a2V5"}})
			if got := accept(t, wh, r).Event.Name; got != want {
				t.Errorf("%s: %q", body, got)
			}
		})
	}
}

func TestHMACFollowsItsOptions(t *testing.T) {
	const body, key = `{"a":1}`, "k"
	for name, tc := range map[string]struct {
		verify    webhook.Verify
		signature string
	}{
		"defaults":       {webhook.Verify{}, hexMAC(sha256.New, key, body)},
		"upper-case hex": {webhook.Verify{}, strings.ToUpper(hexMAC(sha256.New, key, body))},
		"sha1":           {webhook.Verify{Algorithm: "sha1", Prefix: "sha1="}, "sha1=" + hexMAC(sha1.New, key, body)},
		"sha512":         {webhook.Verify{Algorithm: "sha512"}, hexMAC(sha512.New, key, body)},
		"base64":         {webhook.Verify{Encoding: "base64"}, base64.StdEncoding.EncodeToString(mac(sha256.New, key, body))},
		"other parts": {
			webhook.Verify{Signed: `v0:{header.X-Nonce}:{body}\{\}`}, hexMAC(sha256.New, key, "v0:n:", body, "{}"),
		},
		"the body twice": {webhook.Verify{Signed: "{body}{body}"}, hexMAC(sha256.New, key, body, body)},
		"what a Caddyfile makes of {header.NAME}": {
			webhook.Verify{Signed: "{http.request.header.x-nonce}{body}"}, hexMAC(sha256.New, key, "n", body),
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.verify.Sender, tc.verify.Header, tc.verify.Secrets = "hmac", "x-signature", []string{key}
			wh := verified(t, tc.verify)
			accept(t, wh, post("/t", body, "X-Signature", tc.signature, "X-Nonce", "n"))
			refuse(t, wh, post("/t", body+" ", "X-Signature", tc.signature, "X-Nonce", "n"), 401, "the signature is wrong")
		})
	}
}

func TestOneChangedByteIsRefused(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{githubSecret}})
	for i := range githubBody {
		body := []byte(githubBody)
		body[i] ^= 1
		refuse(t, wh, post("/t", string(body), "X-Hub-Signature-256", githubSignature), 401, "the signature is wrong")
	}
	for i := range githubSignature {
		signature := []byte(githubSignature)
		signature[i] ^= 1
		refuse(t, wh, post("/t", githubBody, "X-Hub-Signature-256", string(signature)), 401, "the signature is wrong")
	}
}

func TestMalformedSignatureIsRefusedLikeWrongOne(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{githubSecret}})
	for _, signature := range []string{
		"sha256=", "sha256", "sha256=zz", "sha256=7", githubSignature[len("sha256="):], "sha1=" + githubSignature[len("sha256="):],
		githubSignature + "00", githubSignature[:len(githubSignature)-2], " ", "sha256=" + hexMAC(sha256.New, "", githubBody),
		"sha256=" + hexMAC(sha256.New, "It's another secret", githubBody),
	} {
		refuse(t, wh, post("/t", githubBody, "X-Hub-Signature-256", signature), 401, "the signature is wrong")
	}
	refuse(t, wh, post("/t", githubBody), 401, "signature header X-Hub-Signature-256 missing")
	refuse(t, wh, post("/t", githubBody, "X-Hub-Signature-256", ""), 401, "signature header X-Hub-Signature-256 missing")
	refuse(t, wh, post("/t", githubBody, "X-Hub-Signature", githubSignature), 401, "signature header X-Hub-Signature-256 missing")
}

func TestSecretsCanBeRotated(t *testing.T) {
	t.Setenv("WEBHOOK_TEST_NEW", "new")
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{"old", "{env.WEBHOOK_TEST_NEW}"}})
	for _, key := range []string{"old", "new"} {
		accept(t, wh, post("/t", "x", "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, key, "x")))
	}
	refuse(t, wh, post("/t", "x", "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "older", "x")), 401, "wrong")
}

func TestBraceInSecretBelongsToIt(t *testing.T) {
	const secret = "a{b}c{d"
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{secret}})
	accept(t, wh, post("/t", "x", "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, secret, "x")))
}

func TestSignatureIsAcceptedOnlyWithinTolerance(t *testing.T) {
	verify := webhook.Verify{Sender: "hmac", Secrets: []string{"k"}, Header: "X-Signature", Timestamp: "X-Time", Signed: "{timestamp}.{body}"}
	at(t, standardTime, func(t *testing.T) {
		request := func(timestamp string) *http.Request {
			return post("/t", "x", "X-Signature", hexMAC(sha256.New, "k", timestamp, ".x"), "X-Time", timestamp)
		}
		seconds := func(offset int) *http.Request { return request(strconv.Itoa(standardTime + offset)) }
		wh := verified(t, verify)
		for _, offset := range []int{0, -300, 300} {
			accept(t, wh, seconds(offset))
		}
		refuse(t, wh, seconds(-301), 401, "more than 5m0s ago")
		refuse(t, wh, seconds(301), 401, "more than 5m0s ahead")
		for _, bad := range []string{"-5", "+5", "1e9", "soon", " 1", "99999999999999999999", "9223372036854775807", strconv.Itoa(standardTime) + ".0"} {
			refuse(t, wh, request(bad), 401, "is not a time")
		}
		refuse(t, wh, request(""), 401, "header X-Time missing")

		moved := seconds(-301)
		moved.Header.Set("X-Time", strconv.Itoa(standardTime))
		refuse(t, wh, moved, 401, "the signature is wrong")

		verify.Tolerance = caddy.Duration(time.Second)
		strict := verified(t, verify)
		accept(t, strict, seconds(1))
		refuse(t, strict, seconds(2), 401, "more than 1s ahead")
	})
}

func TestStandardWebhooksAcceptsTolerance(t *testing.T) {
	at(t, standardTime+3600, func(t *testing.T) {
		verify := webhook.Verify{Sender: "standard-webhooks", Secrets: []string{standardKey}}
		refuse(t, verified(t, verify), standardPost(standardSignature), 401, "more than 5m0s ago")
		verify.Tolerance = caddy.Duration(2 * time.Hour)
		accept(t, verified(t, verify), standardPost(standardSignature))
	})
}

func TestSignedHeaderMustComeOnce(t *testing.T) {
	at(t, standardTime, func(t *testing.T) {
		wh := verified(t, webhook.Verify{Sender: "standard-webhooks", Secrets: []string{standardKey}})
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp"} {
			twice := standardPost(standardSignature)
			twice.Header.Add(name, "x")
			refuse(t, wh, twice, 401, "header "+name+" comes more than once")
			none := standardPost(standardSignature)
			none.Header.Del(name)
			refuse(t, wh, none, 401, "header "+name+" missing")
		}
	})
}

func TestSignatureIsCheckedBeforePayload(t *testing.T) {
	for _, wh := range []webhook.Webhook{
		{Topics: []string{"{json.none}"}}, {Select: ".[]"}, {Event: "{json.none.x}"}, {Data: "{form.x}"},
	} {
		wh.Verify = &webhook.Verify{Sender: "github", Secrets: []string{githubSecret}}
		refuse(t, provision(t, wh), post("/", "\xff{", "X-Hub-Signature-256", githubSignature), 401, "the signature is wrong")
	}
}

func TestBodySizeIsCheckedBeforeSignature(t *testing.T) {
	wh := provision(t, webhook.Webhook{MaxBody: 1, Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k"}}})
	r := httptest.NewRequest(http.MethodPost, "/t", iotest.ErrReader(errors.New("read, although it is too large")))
	r.ContentLength = 2
	refuse(t, wh, r, 413, "larger than 1 bytes")
}

// mistake returns the error of a rule that can't work. It is the same error
// without resolving placeholders.
func mistake(t testing.TB, wh webhook.Webhook) error {
	t.Helper()
	before, err := wh.Validate(), wh.Provision(caddy.NewReplacer())
	if before == nil || err == nil || before.Error() != err.Error() {
		t.Errorf("Validate: %v\nProvision: %v", before, err)
	}
	return err
}

func TestVerifyErrorSaysWhatToWrite(t *testing.T) {
	hmacWith := func(verify webhook.Verify) webhook.Verify {
		verify.Sender, verify.Secrets = "hmac", []string{"k"}
		return verify
	}
	for _, tc := range []struct {
		verify webhook.Verify
		words  string
	}{
		{webhook.Verify{}, `unknown sender "": want one of auth0, basic, bitbucket, bitbucket-data-center, cloudevents, discord, gitea, github, gitlab, hmac, hubspot, linear, meta, microsoft-graph, none, paddle, pagerduty, sendgrid, shopify, slack, sns, square, standard-webhooks, stripe, svix, token, twilio, websub, woocommerce, x, zendesk, zoom`},
		{webhook.Verify{Sender: "githab"}, `unknown sender "githab": want one of auth0, basic`},
		{webhook.Verify{Sender: "none", Secrets: []string{"k"}}, "verify none: it takes no secret"},
		{webhook.Verify{Sender: "none", Header: "X"}, "verify none: it takes no header"},
		{webhook.Verify{Sender: "none", Tolerance: 1}, "verify none: it takes no tolerance"},
		{webhook.Verify{Sender: "github"}, "verify github: it needs a secret: write `verify github {env.WEBHOOK_SECRET}`"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Header: "X"}, "verify github: it takes no header; only `verify hmac` does"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Algorithm: "sha1"}, "it takes no algorithm"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Encoding: "hex"}, "it takes no encoding"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Prefix: "x"}, "it takes no prefix"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Signed: "{body}"}, "it takes no signed"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Timestamp: "X"}, "it takes no timestamp"},
		{webhook.Verify{Sender: "github", Secrets: []string{"k"}, Tolerance: 1}, "it takes no tolerance"},
		{webhook.Verify{Sender: "standard-webhooks", Secrets: []string{standardKey}, Signed: "{body}"}, "it takes no signed"},
		{webhook.Verify{Sender: "standard-webhooks", Secrets: []string{standardKey}, Tolerance: -1}, "want a positive duration"},
		{webhook.Verify{Sender: "standard-webhooks", Secrets: []string{"whsec_%%"}}, "secret 1: it is not whsec_ and Base64"},
		{webhook.Verify{Sender: "standard-webhooks", Secrets: []string{standardKey, "whsk_abcd"}}, "secret 2: it is for the asymmetric scheme"},
		{webhook.Verify{Sender: "hmac", Secrets: []string{"k"}}, "add `header X-Signature`"},
		{hmacWith(webhook.Verify{Header: "X-Signature: "}), "is not the name of a header"},
		{hmacWith(webhook.Verify{Header: "X", Algorithm: "md5"}), `unknown algorithm "md5": want sha256, sha1, sha384 or sha512`},
		{hmacWith(webhook.Verify{Header: "X", Encoding: "base32"}), `unknown encoding "base32": want hex or base64`},
		{hmacWith(webhook.Verify{Header: "X", Signed: "{timestamp}.{body}"}), "add `timestamp X-Timestamp`"},
		{hmacWith(webhook.Verify{Header: "X", Signed: "{header.X-Id}"}), "{body} must be part of it"},
		{hmacWith(webhook.Verify{Header: "X", Signed: "{body"}), "is not closed"},
		{hmacWith(webhook.Verify{Header: "X", Signed: "{body}{header.}"}), "unknown placeholder {header.}"},
		{hmacWith(webhook.Verify{Header: "X", Signed: "{body}{json.id}"}), "want {body}, {timestamp}, {header.NAME}"},
		{hmacWith(webhook.Verify{Header: "X", Timestamp: "X-Time"}), "write `signed {timestamp}.{body}`"},
		{hmacWith(webhook.Verify{Header: "X", Timestamp: "X-Time", Signed: "{header.X-Other}.{body}"}), "the timestamp must be part of it"},
		{hmacWith(webhook.Verify{Header: "X", Tolerance: 1}), "add `timestamp X-Timestamp`"},
	} {
		err := mistake(t, webhook.Webhook{Verify: &tc.verify})
		if err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%+v: %v, want %q", tc.verify, err, tc.words)
		}
	}
}

func TestValidateResolvesNoPlaceholder(t *testing.T) {
	for sender, verify := range everySender(t) {
		for _, secret := range []string{"{env.WEBHOOK_TEST_UNSET}", "{$WEBHOOK_TEST_UNSET}", "{file./nowhere}", "a{b}c", "{"} {
			wh := webhook.Webhook{Verify: &verify}
			if verify.Sender != "none" {
				verify.Secrets = []string{secret, secret}
			}
			if len(verify.Challenge) > 0 {
				verify.Challenge = []string{secret}
			}
			if err := wh.Validate(); err != nil {
				t.Errorf("%s %s: %v", sender, secret, err)
			}
		}
	}
	for words, verify := range map[string]webhook.Verify{
		"secret 2: it is not whsec_":              {Sender: "svix", Secrets: []string{"{env.WEBHOOK_TEST_UNSET}", "whsec_%%"}},
		"secret 2: it is not the name of a topic": {Sender: "sns", Secrets: []string{"{env.WEBHOOK_TEST_UNSET}", "orders"}},
		"challenge 2 is empty":                    {Sender: "meta", Secrets: []string{"k"}, Challenge: []string{"{env.WEBHOOK_TEST_UNSET}", ""}},
		"unknown algorithm":                       {Sender: "hmac", Header: "X", Secrets: []string{"{env.WEBHOOK_TEST_UNSET}"}, Algorithm: "md5"},
		"unknown encoding":                        {Sender: "hmac", Header: "X", Secrets: []string{"{env.WEBHOOK_TEST_UNSET}"}, Encoding: "base32"},
	} {
		if err := verify.Validate(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
}

func TestValidateChangesNothing(t *testing.T) {
	wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "github", Secrets: []string{githubSecret}}})
	before := *wh
	if err := wh.Validate(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*wh, before) {
		t.Errorf("%+v, want %+v", *wh, before)
	}
	accept(t, wh, post("/hooks", githubBody, "X-Hub-Signature-256", githubSignature))
}

func TestSignedHeaderMayBeTheTimestamp(t *testing.T) {
	verified(t, webhook.Verify{
		Sender: "hmac", Secrets: []string{"k"}, Header: "X", Timestamp: "x-time", Signed: "{header.X-Time}.{body}",
	})
}

func TestEmptySecretIsAnError(t *testing.T) {
	t.Setenv("WEBHOOK_TEST_EMPTY", "")
	for secret, words := range map[string]string{
		"":                           "secret 2 is empty",
		" \n":                        "secret 2 is empty",
		"{env.WEBHOOK_TEST_UNSET}":   "secret 2: evaluated placeholder {env.WEBHOOK_TEST_UNSET} is empty: is the variable set?",
		"{env.WEBHOOK_TEST_EMPTY}":   "{env.WEBHOOK_TEST_EMPTY} is empty: is the variable set?",
		"a-{env.WEBHOOK_TEST_UNSET}": "{env.WEBHOOK_TEST_UNSET} is empty: is the variable set?",
	} {
		wh := webhook.Webhook{Verify: &webhook.Verify{Sender: "github", Secrets: []string{"good", secret}}}
		if err := wh.Provision(caddy.NewReplacer()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", secret, err, words)
		}
	}
	for _, secret := range []string{"whsec_", ""} {
		wh := webhook.Webhook{Verify: &webhook.Verify{Sender: "standard-webhooks", Secrets: []string{secret}}}
		if err := mistake(t, wh); err == nil || !strings.Contains(err.Error(), "secret 1 is empty") {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

func TestErrorsNeverShowSecretsOrSignatures(t *testing.T) {
	const secret = "hunter2{x}%%"
	for _, verify := range []webhook.Verify{
		{Sender: "standard-webhooks", Secrets: []string{secret}},
		{Sender: "standard-webhooks", Secrets: []string{"whsk_" + secret}},
		{Sender: "hmac", Secrets: []string{secret}},
		{Sender: "none", Secrets: []string{secret}},
		{Sender: "github", Secrets: []string{secret, ""}},
		{Sender: "github", Secrets: []string{secret + "{env.WEBHOOK_TEST_UNSET}"}},
	} {
		wh := webhook.Webhook{Verify: &verify}
		if err := wh.Provision(caddy.NewReplacer()); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{secret}})
	_, err := receive(wh, post("/t", "x", "X-Hub-Signature-256", "sha256=deadbeef"))
	var refused *refusal.Error
	if !errors.As(err, &refused) || strings.Contains(err.Error(), "deadbeef") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), hexMAC(sha256.New, secret, "x")) {
		t.Error(err)
	}
}
