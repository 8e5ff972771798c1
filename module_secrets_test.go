package caddysse_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"
)

// secretsSite is a site with every option that holds secrets. Each secret begins
// with the same mark, so that a search finds it anywhere.
const secretsSite = `
	log
	sse /hooks/github {
		hub %[1]s
		webhook {
			verify github s3cr3t-key-of-github
			topic  orders/{json.order}
			forward async
		}
	}
	sse /hooks/gitlab {
		webhook {
			verify gitlab s3cr3t-token-of-gitlab
		}
	}
	sse /hooks/basic {
		webhook {
			verify basic ann %[2]s
		}
	}
	sse /hooks/meta {
		webhook {
			verify meta s3cr3t-key-of-meta {
				challenge s3cr3t-challenge-of-meta
			}
		}
	}
	sse /hooks/graph {
		webhook {
			verify microsoft-graph s3cr3t-client-state
		}
	}
	sse /publish {
		hub %[1]s
		publish {
			token s3cr3t-token-to-publish
			jwt {
				key    %[3]s
				cookie session
			}
		}
	}
	sse /mine {
		hub %[1]s
		topic users/{http.auth.user.id}
		jwt {
			key    %[3]s
			cookie session
			query  token
		}
	}
	sse /keys {
		topic news
		jwt {
			jwks http://caddy:s3cr3t-password@127.0.0.1:1/keys?key=s3cr3t-of-the-key-set
		}
	}
	sse /asked {
		topic     {query.topic}
		authorize /api/down/{query.topic}?key={query.topic}
	}
	sse /api/* {
		hub %[1]s
		poll 100ms {
			share
			absorb
		}
	}
	sse /query/* {
		poll 100ms {
			method POST
		}
	}
	reverse_proxy /api/down/* 127.0.0.1:1
	reverse_proxy %[4]s
`

const secretJWTKey = "s3cr3t-key-of-tokens-0123456789abcdef"

// secretToken returns a token of which no part may appear.
func secretToken(t *testing.T, key string, claims jwt.MapClaims) string {
	t.Helper()
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func hubSignature(key, body string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// No log line (Caddy's own at the level DEBUG included), no list of the admin
// API, no metric and no response to an unauthorized client contains a secret or a
// body. Caddy's own lines contain a request's query and other headers; the
// module's lines must not.
func TestSecretsNeverAppearInLogsResponsesOrMetrics(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	hub := newHubName()
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cr3t-password-of-ann"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/hooks/"):
			w.WriteHeader(http.StatusGone) // which makes the delivery a dead letter at once
		case strings.Contains(r.URL.Path, "refused"):
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(r.URL.Path, "failing"):
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = io.WriteString(w, `{"private":"s3cr3t-document"}`)
		}
	})
	global := "metrics\n sse\n sse " + hub + "\n log everything {\n output file " + log + " {\n roll_disabled\n }\n format json\n level DEBUG\n }"
	s := watchedSite(t, global, fmt.Sprintf(secretsSite, hub, hash, secretJWTKey, backend))

	const body = `{"order":1,"private":"s3cr3t-body"}`
	github, gitlab := hubSignature("s3cr3t-key-of-github", body), hubSignature("s3cr3t-key-of-gitlab", body)
	good, forged := secretToken(t, secretJWTKey, jwt.MapClaims{"sub": "ann", "publish": "a"}), secretToken(t, "another", jwt.MapClaims{"sub": "ann"})
	elsewhere := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"exp": 1})
	unsigned, err := elsewhere.SigningString()
	if err != nil {
		t.Fatal(err)
	}
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+password))
	}
	const stream, problem = "text/event-stream", "application/problem+json"
	const jsonType = "application/json"
	requests := []struct {
		method, path, body string
		status             int
		header             []string
	}{
		{"POST", "/hooks/github?q=s3cr3t-query", body, 202, []string{"X-Hub-Signature-256", github, "Authorization", "Bearer s3cr3t-authorization", "Cookie", "s=s3cr3t-cookie"}},
		{"POST", "/hooks/github?q=s3cr3t-query", body + " ", 401, []string{"X-Hub-Signature-256", github, "Accept", problem}},
		{"POST", "/hooks/github", `{"private":"s3cr3t-body"}`, 204, []string{"X-Hub-Signature-256", hubSignature("s3cr3t-key-of-github", `{"private":"s3cr3t-body"}`)}},
		{"POST", "/hooks/github", `s3cr3t-body`, 204, []string{"X-Hub-Signature-256", hubSignature("s3cr3t-key-of-github", `s3cr3t-body`)}},
		{"POST", "/hooks/gitlab", body, 202, []string{"X-Gitlab-Token", "s3cr3t-token-of-gitlab"}},
		{"POST", "/hooks/gitlab", body, 401, []string{"X-Gitlab-Token", "s3cr3t-wrong-token"}},
		{"POST", "/hooks/basic", body, 202, []string{"Authorization", basic("s3cr3t-password-of-ann")}},
		{"POST", "/hooks/basic", body, 401, []string{"Authorization", basic("s3cr3t-wrong-password")}},
		{"GET", "/hooks/meta?hub.mode=subscribe&hub.challenge=1&hub.verify_token=s3cr3t-challenge-of-meta", "", 200, nil},
		{"GET", "/hooks/meta?hub.mode=subscribe&hub.challenge=1&hub.verify_token=s3cr3t-wrong-challenge", "", 403, nil},
		{"POST", "/hooks/meta", body, 401, []string{"X-Hub-Signature-256", gitlab}},
		{"POST", "/hooks/graph", `{"value":[{"clientState":"s3cr3t-client-state"}]}`, 202, nil},
		{"POST", "/hooks/graph", `{"value":[{"clientState":"s3cr3t-wrong-state"}]}`, 401, nil},
		{"POST", "/publish", `{"topic":"a","data":"s3cr3t-data"}`, 200, []string{"Authorization", "Bearer s3cr3t-token-to-publish", "Content-Type", jsonType}},
		{"POST", "/publish", `{"topic":"a","data":"s3cr3t-data"}`, 401, []string{"Authorization", "Bearer s3cr3t-wrong-token", "Content-Type", jsonType}},
		{"POST", "/publish", `{"topic":"a","data":"s3cr3t-data"}`, 200, []string{"Authorization", "Bearer " + good, "Content-Type", jsonType}},
		{"POST", "/publish", `{"topic":"b","data":"s3cr3t-data"}`, 403, []string{"Authorization", "Bearer " + good, "Content-Type", jsonType}},
		{"POST", "/publish", `{"topic":"a","data":"s3cr3t-data"}`, 403, []string{"Cookie", "session=" + good, "Sec-Fetch-Site", "cross-site", "Content-Type", jsonType}},
		{"POST", "/publish", `{"topic":"a","data":"s3cr3t-data"`, 400, []string{"Cookie", "session=" + good, "Content-Type", jsonType}},
		{"GET", "/mine", "", 401, []string{"Accept", stream, "Authorization", "Bearer " + forged}},
		{"GET", "/mine", "", 401, []string{"Accept", stream, "Cookie", "session=" + forged}},
		{"GET", "/mine?token=" + forged, "", 401, []string{"Accept", stream}},
		{"GET", "/mine?token=" + good, "", 400, []string{"Accept", jsonType}},
		{"GET", "/keys", "", 503, []string{"Accept", stream, "Authorization", "Bearer " + unsigned + ".c2ln"}},
		{"GET", "/api/refused?q=s3cr3t-query", "", 403, []string{"Accept", stream, "Authorization", "Bearer s3cr3t-authorization", "Cookie", "s=s3cr3t-cookie"}},
		{"POST", "/query/refused", body, 403, []string{"Accept", stream, "Cookie", "s=s3cr3t-cookie"}},
	}
	for _, protocol := range protocols {
		for _, r := range requests {
			resp := s.doOver(protocol, r.method, r.path, r.body, r.header...)
			if resp.StatusCode != r.status {
				t.Errorf("%s %s %s: %s %q, want %d", protocol, r.method, r.path, resp.Status, resp.body, r.status)
			}
			if text := fmt.Sprint(resp.body, resp.Header); strings.Contains(text, "s3cr3t") || strings.Contains(text, github[7:]) || strings.Contains(text, lastOf(good)) {
				t.Errorf("%s %s %s: the response has %s", protocol, r.method, r.path, text)
			}
		}
		credentials := []string{"Authorization", "Bearer s3cr3t-authorization", "Cookie", "s=s3cr3t-cookie"}
		s.open(protocol, "/api/doc?q=s3cr3t-query", credentials...).expect("", `{"private":"s3cr3t-document"}`)
		s.do("GET", "/api/doc?q=s3cr3t-query", "", credentials...) // absorbed
		for _, path := range []string{"/api/failing?q=s3cr3t-query", "/api/down/x?q=s3cr3t-query"} {
			if e := s.open(protocol, path, credentials...).next(); e.Name != "stale" || bytes.Contains(e.Data, []byte("s3cr3t")) || bytes.Contains(e.Data, []byte("127.0.0.1")) {
				t.Errorf("%s: got %q with %q", path, e.Name, e.Data)
			}
		}
		if e := s.open(protocol, "/asked?topic=s3cr3t-topic", credentials...).next(); e.Name != "stale" || bytes.Contains(e.Data, []byte("s3cr3t")) {
			t.Errorf("got %q with %q", e.Name, e.Data)
		}
		s.post(protocol, "/query/doc", body, credentials...).expect("", `{"private":"s3cr3t-document"}`)
		for _, header := range [][]string{{"Authorization", "Bearer " + good}, {"Cookie", "session=" + good}} {
			s.open(protocol, "/mine", header...)
		}
		s.open(protocol, "/mine?token="+good)
	}
	s.wantMetric(hub, `webhook_forwards_total{result="dead",rule="/hooks/github"}`, 9) // webhooks that can't be mapped are forwarded, too

	never := []string{ // in no log line
		"s3cr3t-key", "s3cr3t-password", "s3cr3t-authorization", "s3cr3t-cookie", "s3cr3t-body", "s3cr3t-data", "s3cr3t-document", "s3cr3t-token-to-publish",
		"s3cr3t-wrong-password", "s3cr3t-client-state", "s3cr3t-wrong-state", "s3cr3t-of-the-key-set",
		lastOf(good), lastOf(forged), string(hash), basic("s3cr3t-password-of-ann")[6:], basic("s3cr3t-wrong-password")[6:],
	}
	shown := append([]string{"s3cr3t", github[7:], gitlab[7:]}, never...) // nowhere else, apart from Caddy's own description of a request
	for _, path := range []string{"/sse/views", "/sse/hubs", "/sse/health", "/sse/refusals", "/sse/deadletters", "/metrics"} {
		_, text := s.requestAdmin("GET", path)
		wantNone(t, path, text, shown)
		if len(text) < 10 {
			t.Errorf("%s is empty: %q", path, text)
		}
	}
	waitFor(t, "all in the log", func() bool {
		content, err := os.ReadFile(log)
		return err == nil && bytes.Contains(content, []byte("handled request, without the token in its query"))
	})
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for line := range strings.Lines(string(content)) {
		var entry struct{ Logger, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		wantNone(t, "the log", line, never)
		if strings.Contains(entry.Logger, "sse") {
			own++
			wantNone(t, "the module's log", line, shown)
		}
	}
	if own < 10 {
		t.Errorf("there are %d lines of the module's own", own)
	}
}

// lastOf returns a token's signature.
func lastOf(token string) string { return token[strings.LastIndexByte(token, '.')+1:] }

func wantNone(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s has %q: %s", where, secret, text)
			return
		}
	}
}
