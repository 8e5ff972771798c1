package webhook_test

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

const formHeader = "application/x-www-form-urlencoded"

func signedByGitHub(body string, header ...string) *http.Request {
	return post("/t", body, append(header, "Content-Type", formHeader, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", body))...)
}

// GitHub's default content type is a form.
func TestJSONInGitHubsFormIsTheBody(t *testing.T) {
	wh := provision(t, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k"}},
		Topics: []string{"repos/{json.repository.full_name}"}, Select: "{action, number: .issue.number}",
	})
	const payload = `{"action":"opened","issue":{"number":9007199254740993,"title":"a&b=c+d é"},"repository":{"full_name":"ann/shop"}}`
	form := "payload=" + url.QueryEscape(payload)
	got := accept(t, wh, signedByGitHub(form))
	if string(got.Event.Data) != `{"action":"opened","number":9007199254740993}` || got.Topics[0] != "repos/ann/shop" {
		t.Errorf("%+v", got)
	}
	plain := verified(t, webhook.Verify{Sender: "github", Secrets: []string{"k"}})
	if got := accept(t, plain, signedByGitHub(form)); string(got.Event.Data) != payload || len(got.Topics) != 2 || got.Topics[1] != "github/ann/shop" {
		t.Errorf("%+v", got)
	}
	d, err := receiveDelivery(plain, signedByGitHub("payload="+url.QueryEscape(githubPing), "X-GitHub-Event", "ping"))
	if err != nil || d.HandshakeResponse == nil {
		t.Errorf("the ping is no handshake: %+v, %v", d, err)
	}
	for form, words := range map[string]string{
		"payload=": `"payload" isn't JSON`, "payload=%7B": `"payload" isn't JSON`, "payload=1;2": "isn't a form", "payload=%zz": "isn't a form",
		"payload=" + url.QueryEscape(`{"a":1,"a":2}`): `two members named "a"`, "payload=1&payload=2": "a form",
		"other=1": "a form", "payload=" + url.QueryEscape(payload) + "&a=1": "a form",
	} {
		message, err := receive(wh, signedByGitHub(form))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %+v, %v, want %q", form, message, err, words)
		}
	}
}

// Gitea and Forgejo sign the JSON, also if they send it in a form.
func TestGiteaSignsTheJSONInItsForm(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "gitea", Secrets: []string{"k"}})
	const payload = `{"ref":"refs/heads/main","repository":{"full_name":"ann/shop"}}`
	signature := hexMAC(sha256.New, "k", payload)
	form := "payload=" + url.QueryEscape(payload)
	if got := accept(t, wh, post("/t", form, "Content-Type", formHeader, "X-Gitea-Signature", signature)); string(got.Event.Data) != payload {
		t.Errorf("%s", got.Event.Data)
	}
	if got := accept(t, wh, post("/t", payload, "Content-Type", "application/json", "X-Gitea-Signature", signature)); string(got.Event.Data) != payload {
		t.Errorf("%s", got.Event.Data)
	}
	for _, forged := range []string{form + "&a=1", form + "&" + form, "Payload" + form[7:], form + "x"} {
		refuse(t, wh, post("/t", forged, "Content-Type", formHeader, "X-Gitea-Signature", signature), 401, "signature is wrong")
	}
}

func TestSlackInteractionIsTheJSONInItsForm(t *testing.T) {
	wh := provision(t, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "slack", Secrets: []string{"k"}}, Select: ".actions[0].value", Event: "{json.type}",
	})
	form := "payload=" + url.QueryEscape(`{"type":"block_actions","token":"S3CRET","actions":[{"value":"approve"}]}`)
	if got := accept(t, wh, fromSlack(form, formHeader)).Event; string(got.Data) != `"approve"` || got.Name != "block_actions" {
		t.Errorf("%+v", got)
	}
	command := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "slack", Secrets: []string{"k"}}, Select: ".text"})
	if got := accept(t, command, fromSlack("token=S3CRET&command=%2Fdeploy&text=now", formHeader)); string(got.Event.Data) != `"now"` {
		t.Errorf("%s", got.Event.Data)
	}
}

func TestSelectThatCanReadNothingIsRefused(t *testing.T) {
	for _, tc := range []struct {
		program, contentType, body string
		taken                      bool
	}{
		{"{action, number: .issue.number}", formHeader, "payload=%7B%22action%22%3A%22opened%22%7D", false},
		{"{action, number: .issue.number}", "", `{"zen":"x"}`, false},
		{"{kind: \"push\", repo: .repository.full_name}", "", `{"zen":null}`, false},
		{".data", "", `{"id":1}`, false},
		{"[.a, .b]", "", `{"id":1,"c":null}`, false},
		{".[0].a", "", `[{"b":1}]`, false},
		{"{action, number: .issue.number}", "", `{"action":"created"}`, true},
		{".data", "", `{"data":null}`, true},
		{"{a, b}", "", `{"a":null}`, true},
		{".a.b", "", `{"a":{"b":null,"n":12345678901234567890}}`, true},
		{".", "", `null`, true},
		{"\"changed\"", "", `{"a":1}`, true},
		{"null", "", `{"a":1}`, true},
		{"{}", "", `{"a":1}`, true},
		{".a // \"none\"", "", `{"b":1}`, true},
		{"[.items[]?]", "", `{"b":1}`, true},
		{".a.b", formHeader, "a[b]=null", true},
		{"{a: (.a | length)}", "", `{"b":1}`, true},
	} {
		wh := open(t, webhook.Webhook{Select: tc.program})
		r := post("/t", tc.body, "Content-Type", tc.contentType)
		if tc.taken {
			accept(t, wh, r)
		} else {
			refuse(t, wh, r, 422, "select can read nothing of")
		}
	}
}
