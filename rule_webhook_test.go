package caddysse_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestHandshakeIsAnsweredAndPublishesNothing(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/meta {
		webhook {
			verify meta "`+secret+`" {
				challenge "verify me"
			}
		}
	}
	sse /hooks/cloudevents {
		webhook {
			verify cloudevents "`+secret+`"
		}
	}
	sse /hooks/graph {
		webhook {
			verify microsoft-graph "`+secret+`"
		}
	}
	sse /hooks/slack {
		webhook {
			verify slack "`+secret+`"
		}
	}
	sse /events {
		topic hooks/meta hooks/cloudevents hooks/graph hooks/slack
	}`)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			c := s.open(protocol, "/events")
			now := strconv.FormatInt(time.Now().Unix(), 10)
			slack := `{"type":"url_verification","challenge":"<b>c</b>"}`
			for _, req := range []struct {
				method, path, body string
				header             []string
				status             int
				want               string
			}{
				{"GET", "/hooks/meta?hub.mode=subscribe&hub.verify_token=verify+me&hub.challenge=1158201444", "", nil, 200, "1158201444"},
				{"GET", "/hooks/meta?hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1158201444", "", nil, 403, "the verify token is wrong\n"},
				{"GET", "/hooks/meta", "", nil, 405, "GET is not answered here: use POST\n"},
				{"POST", "/hooks/graph?validationToken=%3Cb%3E", "", nil, 200, "<b>"},
				{"OPTIONS", "/hooks/cloudevents", "", []string{"WebHook-Request-Origin", "a.example"}, 200, ""},
				{"POST", "/hooks/slack", slack, fromSlack(now, slack), 200, "<b>c</b>"},
				{"POST", "/hooks/slack", slack, fromSlack(now, slack+" "), 401, "the signature is wrong\n"},
			} {
				resp := s.doOver(protocol, req.method, req.path, req.body, req.header...)
				if resp.StatusCode != req.status || resp.body != req.want {
					t.Errorf("%s %s: got %d %q, want %d %q", req.method, req.path, resp.StatusCode, resp.body, req.status, req.want)
				}
				if resp.body != "" && req.status != 405 && (resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain")) {
					t.Errorf("%s: %v", req.path, resp.Header)
				}
			}
			body := `{"object":"page","over":"` + protocol + `"}`
			resp := s.doOver(protocol, "POST", "/hooks/meta", body, "X-Hub-Signature-256", "sha256="+hex.EncodeToString(signature(body)))
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
			c.expect("page", body) // the first event
		})
	}
}

func fromSlack(now, body string) []string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + now + ":" + body))
	return []string{"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0=" + hex.EncodeToString(mac.Sum(nil))}
}

func TestSlackReceives200WithoutBody(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/slack {
		webhook {
			verify slack "`+secret+`"
		}
	}
	sse /events {
		topic hooks/slack
	}`)
	c := s.open("HTTP/2.0", "/events")
	now := strconv.FormatInt(time.Now().Unix(), 10)
	const body = `{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`
	resp := s.do("POST", "/hooks/slack", body, fromSlack(now, body)...)
	if resp.StatusCode != http.StatusOK || resp.body != "" || resp.Header.Get("Content-Type") != "" {
		t.Errorf("got %s %q %v", resp.Status, resp.body, resp.Header)
	}
	c.expect("app_mention", body)
}

func TestVerifyAloneConfiguresWebhook(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/github {
		webhook {
			verify github "`+secret+`"
		}
	}
	sse /all {
		topic hooks/github
	}
	sse /one {
		topic github/{query.repo}
		allow github/*/*
	}`)
	all, one := s.open("HTTP/2.0", "/all"), s.open("HTTP/2.0", "/one?repo=a/b")
	for _, repo := range []string{"c/d", "a/b"} {
		body := `{"repository":{"full_name":"` + repo + `"}}`
		header := fromGitHub(body)
		header[len(header)-1] = strings.ReplaceAll(repo, "/", "-")
		if resp := s.do("POST", "/hooks/github", body, header...); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("got %s %s", resp.Status, resp.body)
		}
		all.expect("issues", body)
	}
	one.expect("issues", `{"repository":{"full_name":"a/b"}}`)
}

func TestSplitDeliveryReturnsAllIDs(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/items {
		webhook {
			verify token X-Token "`+secret+`"
			split  .items[]
			when   `+"`.n > 1`"+`
			topic  items
			id     {json.id}
		}
	}
	sse /events {
		topic items
	}`)
	c := s.open("HTTP/1.1", "/events")
	resp := s.do("POST", "/hooks/items", `{"items":[{"id":"a","n":1},{"id":"b","n":2},{"id":"c","n":3}]}`, "X-Token", secret)
	if resp.StatusCode != http.StatusAccepted || resp.body != "{\"ids\":[\"b\",\"c\"]}\n" {
		t.Fatalf("got %s %q", resp.Status, resp.body)
	}
	c.expect("", `{"id":"b","n":2}`)
	c.expect("", `{"id":"c","n":3}`)
	if resp := s.do("POST", "/hooks/items", `{"items":[]}`, "X-Token", secret); resp.StatusCode != http.StatusNoContent {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
}

func TestWebhookRefreshPollsNamedViews(t *testing.T) {
	doc := newDocument(`{"stock":5}`)
	address := startBackend(t, doc.ServeHTTP)
	s := startSite(t, "", fmt.Sprintf(`
	sse /hooks/stock {
		webhook {
			verify  token X-Token "%[1]s"
			when    `+"`.kind == \"stock\"`"+`
			refresh /api/inventory/{json.id}
		}
	}
	sse /hooks/last {
		webhook {
			verify token X-Token "%[1]s"
			topic  hooks/stock
		}
	}
	sse /events {
		topic hooks/stock
	}
	sse /api/* {
		poll 1h
	}
	reverse_proxy %[2]s`, secret, address))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			doc.set(`{"stock":5}`)
			published := s.open(protocol, "/events")
			c := s.open(protocol, "/api/inventory/7", "X-Test", protocol)
			parent := s.open(protocol, "/api/inventory", "X-Test", protocol)
			c.expect("", `{"stock":5}`)
			parent.expect("", `{"stock":5}`)
			doc.set(`{"stock":4}`) // without a request through Caddy
			send := func(body string) int {
				return s.doOver(protocol, "POST", "/hooks/stock", body, "X-Token", secret).StatusCode
			}
			if got := []int{send(`{"kind":"other"}`), send(`{"kind":"stock","id":"../7"}`), send(`{"kind":"stock","id":7}`)}; fmt.Sprint(got) != "[204 422 204]" {
				t.Errorf("got %v", got)
			}
			c.expect("", `{"stock":4}`)
			parent.expect("", `{"stock":4}`)
			s.do("POST", "/hooks/last", protocol, "X-Token", secret)
			published.expect("", protocol) // the first event
		})
	}
}

func TestBasicAuthenticationIsChallenged(t *testing.T) {
	// Caddy itself uses this hash, of "antitiming", if there is no user.
	s := startSite(t, "", `
	sse /hooks/app {
		webhook {
			verify basic ann $argon2id$v=19$m=47104,t=1,p=1$P2nzckEdTZ3bxCiBCkRTyA$xQL3Z32eo5jKl7u5tcIsnEKObYiyNZQQf5/4sAau6Pg
		}
	}`)
	resp := s.do("POST", "/hooks/app", "x")
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != `Basic realm="webhook"` {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
	r, err := http.NewRequest(http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("ann", "antitiming")
	if resp := s.do("POST", "/hooks/app", "x", "Authorization", r.Header.Get("Authorization")); resp.StatusCode != http.StatusAccepted {
		t.Errorf("got %s %s", resp.Status, resp.body)
	}
}

// The test stands in for Amazon SNS, with a key and a certificate of its own.
func TestAmazonSNSTopicIsConfirmedThenReceived(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	confirmed := make(chan string, 1)
	address := "http://" + startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/confirm" {
			confirmed <- r.URL.RawQuery
			return
		}
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	})
	const arn = "arn:aws:sns:us-east-1:123456789012:orders"
	s := startSite(t, "", fmt.Sprintf(`
	sse /hooks/sns {
		webhook {
			verify sns %s {
				hosts %s
			}
			data {json.Message}
		}
	}
	sse /events {
		topic hooks/sns
	}`, arn, address))
	send := func(message map[string]string, fields ...string) response {
		message["TopicArn"], message["Timestamp"], message["SignatureVersion"] = arn, time.Now().UTC().Format(time.RFC3339), "2"
		message["SigningCertURL"] = address + "/cert.pem"
		var text strings.Builder
		for _, field := range fields {
			text.WriteString(field + "\n" + message[field] + "\n")
		}
		sum := sha256.Sum256([]byte(text.String()))
		signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		message["Signature"] = base64.StdEncoding.EncodeToString(signature)
		body, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		return s.do("POST", "/hooks/sns", string(body), "Content-Type", "text/plain; charset=UTF-8")
	}
	c := s.open("HTTP/2.0", "/events")
	resp := send(map[string]string{
		"Type": "SubscriptionConfirmation", "MessageId": "m1", "Message": "confirm", "Token": "t1", "SubscribeURL": address + "/confirm?Token=t1",
	}, "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
	if resp.StatusCode != http.StatusOK || <-confirmed != "Token=t1" {
		t.Fatalf("got %s %s", resp.Status, resp.body)
	}
	forged := map[string]string{"Type": "Notification", "MessageId": "m2", "Message": "forged"}
	if resp := send(forged, "MessageId"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s %s", resp.Status, resp.body)
	}
	resp = send(map[string]string{"Type": "Notification", "MessageId": "m3", "Message": "order 1"},
		"Message", "MessageId", "Timestamp", "TopicArn", "Type")
	if resp.StatusCode != http.StatusAccepted || resp.body != "{\"id\":\"m3\"}\n" {
		t.Fatalf("got %s %s", resp.Status, resp.body)
	}
	c.expect("", "order 1")
}

func TestEventCalledErrorReachesPagesAndTheLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s := startSite(t, "log everything {\n output file "+log+" {\n roll_disabled\n }\n}", `
		sse /hooks {
			webhook {
				verify none
				topic t
				event {json.type}
			}
		}
		sse /events {
			topic t
		}`)
	c := s.open("HTTP/2.0", "/events")
	for range 3 {
		if resp := s.do("POST", "/hooks", `{"type":"error","userId":7}`, "Content-Type", "application/json"); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status, resp.body)
		}
		c.expect("error_", `{"type":"error","userId":7}`)
	}
	content, err := os.ReadFile(log)
	if n := strings.Count(string(content), "can't have the name"); err != nil || n != 1 || !strings.Contains(string(content), `"given":"error","name":"error_"`) {
		t.Errorf("the log has %d lines, %v", n, err)
	}
}
