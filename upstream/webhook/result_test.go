package webhook_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func TestRefusalHasResultAndDetailForOperator(t *testing.T) {
	const body = `{"id":"evt_1"}`
	stripe := verified(t, webhook.Verify{Sender: "stripe", Secrets: []string{"k1", "k2"}})
	github := verified(t, webhook.Verify{Sender: "github", Secrets: []string{"k1"}})
	token := verified(t, webhook.Verify{Sender: "token", Header: "X-Token", Prefix: "Key ", Secrets: []string{"k1", "k2", "k3"}})
	meta := verified(t, webhook.Verify{Sender: "meta", Secrets: []string{"k1"}, Challenge: []string{"c"}})
	hash, err := bcrypt.GenerateFromPassword([]byte("k1"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	password := verified(t, webhook.Verify{Sender: "basic", User: "ann", Secrets: []string{string(hash)}})
	basic := func(user, pass string) *http.Request {
		r := post("/t", body)
		r.SetBasicAuth(user, pass)
		return r
	}
	signed := func(at time.Time) string {
		seconds := strconv.FormatInt(at.Unix(), 10)
		return "t=" + seconds + ",v1=" + hexMAC(sha256.New, "k2", seconds+"."+body)
	}
	zeros := strings.Repeat("0", 64)
	for _, tc := range []struct {
		name   string
		wh     *webhook.Webhook
		r      *http.Request
		kind   webhook.Result
		detail string
	}{
		{"no header", stripe, post("/t", body), webhook.BadSignature, ""},
		{"no signature in it", stripe, post("/t", body, "Stripe-Signature", "t=1,v0="+zeros), webhook.BadSignature,
			`header Stripe-Signature holds no signature that begins with "v1=", in hex`},
		{"a wrong one", stripe, post("/t", body, "Stripe-Signature", "t=1,v1="+zeros), webhook.BadSignature,
			"none of 2 secrets fits the 1 signature in header Stripe-Signature"},
		{"two wrong ones", stripe, post("/t", body, "Stripe-Signature", "t=1,v1="+zeros+",v1="+zeros), webhook.BadSignature, "none of 2 secrets fits the 2 signatures"},
		{"one secret", github, post("/t", body, "X-Hub-Signature-256", "sha256="+zeros), webhook.BadSignature, "none of 1 secret fits"},
		{"an old one", stripe, post("/t", body, "Stripe-Signature", signed(time.Now().Add(-90*time.Minute))), webhook.StaleTimestamp, "signed 1h"},
		{"a future one", stripe, post("/t", body, "Stripe-Signature", signed(time.Now().Add(90*time.Minute))), webhook.StaleTimestamp, "signed 1h"},
		{"a token without its prefix", token, post("/t", body, "X-Token", zeros), webhook.BadSignature, `header X-Token doesn't begin with "Key "`},
		{"a wrong token", token, post("/t", body, "X-Token", "Key "+zeros), webhook.BadSignature, "header X-Token holds none of 3 secrets"},
		{"another user", password, basic("eve", "k1"), webhook.BadSignature, "the user is wrong"},
		{"another password", password, basic("ann", "k2"), webhook.BadSignature, "the user is right"},
		{"too large", provision(t, webhook.Webhook{MaxBody: 1, Verify: &webhook.Verify{Sender: "none"}}), post("/t", body), webhook.TooLarge, ""},
		{"too large when it is unzipped", open(t, webhook.Webhook{MaxBody: 100}), post("/t", zipped(t, strings.Repeat("a", 999)), "Content-Encoding", "gzip"), webhook.TooLarge, ""},
		{"an odd coding", open(t, webhook.Webhook{}), post("/t", body, "Content-Encoding", "br"), webhook.Malformed, ""},
		{"no JSON", open(t, webhook.Webhook{Topics: []string{"{json.a}"}}), post("/t", "x"), webhook.Malformed, ""},
		{"no field", open(t, webhook.Webhook{Topics: []string{"{json.a}"}}), post("/t", body), webhook.Unmapped, ""},
		{"a handshake", meta, httptest.NewRequest("GET", "/t?hub.mode=subscribe&hub.verify_token="+zeros, nil), webhook.BadHandshake, ""},
		{"a body that breaks off", open(t, webhook.Webhook{}), httptest.NewRequest("POST", "/t", io.MultiReader(strings.NewReader("x"), brokenReader{})), webhook.BrokenOff, ""},
	} {
		_, err := receiveDelivery(tc.wh, tc.r)
		if tc.r.Method == "GET" {
			_, err = tc.wh.Handshake(tc.r, caddy.NewReplacer())
		}
		var refused *refusal.Error
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := webhook.ResultOf(err); got != tc.kind || !slices.Contains(webhook.Results, got) {
			t.Errorf("%s: counts as %q, want %q", tc.name, got, tc.kind)
		}
		if !strings.HasPrefix(refused.Detail, tc.detail) || tc.detail == "" && refused.Detail != "" {
			t.Errorf("%s: detail %q, want %q", tc.name, refused.Detail, tc.detail)
		}
		for _, secret := range []string{zeros, "k1", "k2", hexMAC(sha256.New, "k1", body), hexMAC(sha256.New, "k2", "1."+body)} {
			if strings.Contains(refused.Detail+refused.Reason, secret) {
				t.Errorf("%s: it shows %q", tc.name, secret)
			}
		}
		w := httptest.NewRecorder()
		refused.Write(w, tc.r)
		if refused.Detail != "" && strings.Contains(w.Body.String(), refused.Detail) {
			t.Errorf("%s: the sender is told the detail", tc.name)
		}
	}
	if got := webhook.ResultOf(errors.New("x")); got != webhook.Unavailable {
		t.Error(got)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestConflictingOptionsSayWhatToWrite(t *testing.T) {
	for _, tc := range []struct {
		wh   webhook.Webhook
		want string
	}{
		{webhook.Webhook{Dedupe: &webhook.Dedupe{MaxCount: -1}}, "`dedupe off`"},
		{webhook.Webhook{Dedupe: &webhook.Dedupe{MaxAge: -1}}, "`dedupe off`"},
		{webhook.Webhook{Dedupe: &webhook.Dedupe{Off: true, MaxCount: 1}}, "leave one of them out"},
		{webhook.Webhook{Forward: "later"}, `want "sync" or "async"`},
		{webhook.Webhook{Forward: "async", ForwardFor: -1}, "positive"},
		{webhook.Webhook{Forward: "sync", ForwardFor: 1}, "`forward async 24h`"},
		{webhook.Webhook{ForwardFor: 1}, "`forward async 24h`"},
	} {
		tc.wh.Verify = &webhook.Verify{Sender: "none"}
		if err := mistake(t, tc.wh); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.wh, err, tc.want)
		}
	}
}

func TestIdempotencyKeyNeedsDeliveryID(t *testing.T) {
	for _, tc := range []struct {
		name string
		wh   webhook.Webhook
		body string
		want string
	}{
		{"an id in a header", webhook.Webhook{ID: "{http.request.header.X-Id}"}, `{}`, "h1 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
		{"of a split body", webhook.Webhook{ID: "{http.request.header.X-Id}", Split: ".[]"}, `[1,2]`, "h1 49a64717d5d4cb19952e6eac2946415cf6879adacf9908e7d872332d32c6e684"},
		{"an id in the body", webhook.Webhook{ID: "{json.id}"}, `{"id":"b1"}`, "b1"},
		{"ids of parts", webhook.Webhook{ID: "{json.id}", Split: ".items[]"}, `{"id":"account","items":[{"id":"b1"}]}`, ""},
		{"no id", webhook.Webhook{}, `{}`, ""},
		{"what is dropped", webhook.Webhook{ID: "{http.request.header.X-Id}", When: "false"}, `{}`, "h1 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
		{"off", webhook.Webhook{ID: "{http.request.header.X-Id}", Dedupe: &webhook.Dedupe{Off: true}}, `{}`, ""},
	} {
		wh := open(t, tc.wh)
		d, err := receiveDelivery(wh, post("/t", tc.body, "X-Id", "h1"))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := wh.IdempotencyKey("rule", d); got.ID != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got.ID, tc.want)
		}
	}
	wh := open(t, webhook.Webhook{ID: "{json.id}", Dedupe: &webhook.Dedupe{MaxCount: 7, MaxAge: caddy.Duration(time.Hour)}})
	d, err := receiveDelivery(wh, post("/t", `{"id":"b1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := wh.IdempotencyKey("rule", d); got.Scope != "rule" || got.Window.MaxCount != 7 || got.Window.MaxAge != time.Hour {
		t.Errorf("%+v", got)
	}
}

func TestForwardedDeliveryMayBeUnpublishableButNeverUnverified(t *testing.T) {
	for _, forward := range []string{webhook.ForwardSync, webhook.ForwardAsync} {
		wh := provision(t, webhook.Webhook{
			Topics: []string{"{json.none}"}, MaxBody: 100, Forward: forward,
			Verify: &webhook.Verify{Sender: "token", Header: "X-Token", Secrets: []string{"k"}},
		})
		for _, body := range []string{"x", "", "{}", "\xff"} {
			d, err := receiveDelivery(wh, post("/t", body, "X-Token", "k"))
			if err != nil || d.Refused == nil || string(d.Body) != body || len(d.Messages) > 0 {
				t.Errorf("%s %q: %+v %v", forward, body, d, err)
			}
		}
		for _, r := range []*http.Request{
			post("/t", "{}", "X-Token", "wrong"), post("/t", strings.Repeat("x", 101), "X-Token", "k"),
			post("/t", "x", "X-Token", "k", "Content-Encoding", "gzip"), asEarlyData(post("/t", "{}", "X-Token", "k")),
		} {
			if d, err := receiveDelivery(wh, r); err == nil {
				t.Errorf("%s: it is let pass: %+v", forward, d)
			}
		}
	}
}

func asEarlyData(r *http.Request) *http.Request {
	r.TLS = early()
	return r
}
