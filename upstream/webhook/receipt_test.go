package webhook_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// known returns what the module knows a request by: the delivery's key and the
// events' ids.
func known(t *testing.T, wh *webhook.Webhook, r *http.Request) string {
	t.Helper()
	d, err := receiveDelivery(wh, r)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(d.Messages))
	for i, m := range d.Messages {
		ids[i] = m.Event.ID
	}
	return fmt.Sprint(wh.IdempotencyKey("rule", d).ID, " ", ids)
}

func TestUnsignedIDCountsTogetherWithBody(t *testing.T) {
	off := &webhook.Dedupe{Off: true}
	const first, second = `{"installation":{"id":1},"l":[1,2]}`, `{"installation":{"id":2},"l":[1,2]}`
	for name, tc := range map[string]struct {
		rule   webhook.Webhook
		header string
	}{
		"GitHub's":                 {webhook.Webhook{}, "X-GitHub-Delivery"},
		"the rule's":               {webhook.Webhook{ID: "{http.request.header.X-Id}"}, "X-Id"},
		"in a query":               {webhook.Webhook{ID: "{http.request.uri.query.id}"}, ""},
		"without a record":         {webhook.Webhook{Dedupe: off}, "X-GitHub-Delivery"},
		"of a split body":          {webhook.Webhook{Split: ".l[]"}, "X-GitHub-Delivery"},
		"of one without a record":  {webhook.Webhook{Split: ".l[]", Dedupe: off}, "X-GitHub-Delivery"},
		"together with the body's": {webhook.Webhook{ID: "{http.request.header.X-Id}-{json.l.0}"}, "X-Id"},
	} {
		tc.rule.Verify = &webhook.Verify{Sender: "github", Secrets: []string{"k"}}
		wh := provision(t, tc.rule)
		send := func(body, id string) string {
			return known(t, wh, post("/t?id="+id, body, tc.header, id, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", body)))
		}
		if a, again := send(first, "d1"), send(first, "d1"); a != again || !strings.Contains(a, "d1") {
			t.Errorf("%s: the same delivery is known by %q and by %q", name, a, again)
		}
		for _, other := range []string{send(second, "d1"), send(first, "d2")} {
			if a := send(first, "d1"); a == other {
				t.Errorf("%s: both deliveries are known by %q", name, a)
			}
		}
	}
}

// Overlapping batches repeat elements: an element is known by its own content.
func TestElementWithPartlyUnsignedIDCountsTogetherWithItsContent(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: ".[]", ID: "{http.request.header.X-Id}.{json.n}"})
	a := known(t, wh, post("/t", `[{"n":1,"x":"a"},{"n":2}]`, "X-Id", "d"))
	b := known(t, wh, post("/t", `[{"n":2},{"n":1,"x":"b"}]`, "X-Id", "d"))
	first, second := strings.Fields(strings.Trim(a, " []")), strings.Fields(strings.Trim(b, " []"))
	if len(first) != 2 || first[1] != second[0] || first[0] == second[1] {
		t.Errorf("%q, %q", a, b)
	}
}

func TestSignedIDCountsAlone(t *testing.T) {
	signer, err := standardwebhooks.NewWebhook("whsec_" + standardKey)
	if err != nil {
		t.Fatal(err)
	}
	standard := verified(t, webhook.Verify{Sender: "standard-webhooks", Secrets: []string{"whsec_" + standardKey}})
	own := provision(t, webhook.Webhook{
		ID:     "{http.request.header.X-Id}",
		Verify: &webhook.Verify{Sender: "hmac", Secrets: []string{"k"}, Header: "X-Sig", Signed: "{header.x-id}.{body}"},
	})
	stripe := verified(t, webhook.Verify{Sender: "stripe", Secrets: []string{"k"}})
	now := fmt.Sprint(time.Now().Unix())
	for _, body := range []string{`{"id":"d1","n":1}`, `{"id":"d1","n":2}`} {
		signature, err := signer.Sign("d1", time.Now(), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []string{
			known(t, standard, post("/t", body, "webhook-id", "d1", "webhook-timestamp", now, "webhook-signature", signature)),
			known(t, own, post("/t", body, "X-Id", "d1", "X-Sig", hexMAC(sha256.New, "k", "d1.", body))),
			known(t, stripe, post("/t", body, "Stripe-Signature", "t="+now+",v1="+hexMAC(sha256.New, "k", now, ".", body))),
			known(t, open(t, webhook.Webhook{ID: "{json.id}"}), post("/t", body)),
		} {
			if got != "d1 [d1]" {
				t.Errorf("known by %q", got)
			}
		}
	}
}

// GitHub gives one event the same X-GitHub-Delivery for each hook, also if the
// bodies are equal.
func TestEachHookOfTheSenderIsADelivery(t *testing.T) {
	for sender, tc := range map[string]struct {
		id, hook string
		header   []string
	}{
		"github":    {"X-GitHub-Delivery", "X-GitHub-Hook-ID", []string{"X-Hub-Signature-256", "sha256=" + hexMAC(sha256.New, "k", "{}")}},
		"gitlab":    {"Idempotency-Key", "X-Gitlab-Webhook-UUID", []string{"X-Gitlab-Token", "k"}},
		"bitbucket": {"X-Request-UUID", "X-Hook-UUID", []string{"X-Hub-Signature", "sha256=" + hexMAC(sha256.New, "k", "{}")}},
	} {
		wh := verified(t, webhook.Verify{Sender: sender, Secrets: []string{"k"}})
		send := func(hook string) string {
			return known(t, wh, post("/t", "{}", append(tc.header, tc.id, "d1", tc.hook, hook)...))
		}
		if one, again, two := send("1"), send("1"), send("2"); one == two || one != again {
			t.Errorf("%s: the hooks are known by %q, %q and %q", sender, one, again, two)
		}
	}
}

// Each attempt to deliver a form has another boundary.
func TestRepeatedMultipartFormIsTheSameDelivery(t *testing.T) {
	wh := open(t, webhook.Webhook{ID: "{http.request.header.X-Id}"})
	send := func(boundary, value string) string {
		return known(t, wh, post("/t", multipartBody(boundary, `form-data; name="a"`, value), "X-Id", "d1", "Content-Type", "multipart/form-data; boundary="+boundary))
	}
	if a, again, other := send("b", "1"), send("c", "1"), send("b", "2"); a != again || a == other {
		t.Errorf("%q, %q, %q", a, again, other)
	}
}
