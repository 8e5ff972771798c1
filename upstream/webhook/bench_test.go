package webhook_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// 8 KiB is the size of an ordinary webhook: GitHub sends 5 to 25 KiB.
var benchBody = `{"action":"opened","type":"issue.opened","issue":{"number":42,"body":"` + strings.Repeat("x", 8000) +
	`"},"repository":{"full_name":"octo/hello"}}`

func benchmarkReceive(b *testing.B, wh webhook.Webhook, header http.Header) {
	rule := provision(b, wh)
	r := httptest.NewRequest(http.MethodPost, "/hooks", nil)
	r.Header = header
	r.ContentLength = int64(len(benchBody))
	repl := caddyhttp.NewTestReplacer(r)
	body := bytes.NewReader(nil)
	b.SetBytes(int64(len(benchBody)))
	b.ReportAllocs()
	for b.Loop() {
		body.Reset([]byte(benchBody))
		r.Body = io.NopCloser(body)
		if delivery, err := rule.Receive(httptest.NewRecorder(), r, repl); err != nil || len(delivery.Messages) != 1 {
			b.Fatal(delivery, err)
		}
	}
}

func BenchmarkReceiveUnchanged(b *testing.B) {
	benchmarkReceive(b, webhook.Webhook{Verify: &webhook.Verify{Sender: "none"}}, http.Header{})
}

func BenchmarkReceiveGitHub(b *testing.B) {
	benchmarkReceive(b, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k"}},
		Topics: []string{"repos/{json.repository.full_name}"},
	}, http.Header{
		"X-Hub-Signature-256": {"sha256=" + hexMAC(sha256.New, "k", benchBody)},
		"X-Github-Event":      {"issues"},
		"X-Github-Delivery":   {"72d3162e-cc78-11e3-81ab-4c9367dc0958"},
	})
}

func BenchmarkReceiveStandardWebhooksWithSelect(b *testing.B) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	benchmarkReceive(b, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "standard-webhooks", Secrets: []string{"whsec_a2V5"}},
		Topics: []string{"repos/{json.repository.full_name}"},
		Select: "{action, number: .issue.number}",
	}, http.Header{
		"Webhook-Id":        {"msg_1"},
		"Webhook-Timestamp": {now},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(mac(sha256.New, "key", "msg_1.", now, ".", benchBody))},
	})
}
