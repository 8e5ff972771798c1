package webhook_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

const bom = "\ufeff"

// fromSlack returns a request of Slack's, signed with the secret k.
func fromSlack(body, contentType string) *http.Request {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	return post("/t", body, "Content-Type", contentType,
		"X-Slack-Request-Timestamp", now, "X-Slack-Signature", "v0="+hexMAC(sha256.New, "k", "v0:", now, ":", body))
}

func slackRule(t testing.TB) *webhook.Webhook {
	return verified(t, webhook.Verify{Sender: "slack", Secrets: []string{"k"}})
}

func TestByteOrderMarkIsDropped(t *testing.T) {
	for _, contentType := range []string{"", "application/json", "application/json; charset=utf-8", "text/plain", "application/octet-stream"} {
		wh := open(t, webhook.Webhook{Topics: []string{"orders/{json.id}"}})
		got := accept(t, wh, post("/t", bom+`{"id":7}`, "Content-Type", contentType))
		if got.Topics[0] != "orders/7" || string(got.Event.Data) != `{"id":7}` {
			t.Errorf("%q: %+v", contentType, got)
		}
	}
	form := open(t, webhook.Webhook{Topics: []string{"orders/{form.id}"}})
	if got := accept(t, form, post("/t", bom+"id=7", "Content-Type", "application/x-www-form-urlencoded")); got.Topics[0] != "orders/7" {
		t.Errorf("%+v", got)
	}
	lines := open(t, webhook.Webhook{Split: ".[]"})
	if got := accept(t, lines, post("/t", bom+`{"id":7}`+"\n", "Content-Type", "application/x-ndjson")); string(got.Event.Data) != `{"id":7}` {
		t.Errorf("%+v", got)
	}
	zip := open(t, webhook.Webhook{Select: ".id"})
	if got := accept(t, zip, post("/t", zipped(t, bom+`{"id":7}`), "Content-Encoding", "gzip")); string(got.Event.Data) != "7" {
		t.Errorf("%+v", got)
	}
	bytes := accept(t, open(t, webhook.Webhook{}), post("/t", bom+"\xff", "Content-Type", "image/png"))
	if string(bytes.Event.Data) != `{"type":"image/png","base64":"77u//w=="}` {
		t.Errorf("the mark of bytes that are no text was dropped: %s", bytes.Event.Data)
	}
}

func TestByteOrderMarkOfPlainTextIsText(t *testing.T) {
	got := accept(t, open(t, webhook.Webhook{}), post("/t", bom+"x", "Content-Type", "text/plain; charset=utf-8"))
	if string(got.Event.Data) != bom+"x" {
		t.Errorf("%q", got.Event.Data)
	}
}

// The signature covers the mark, and the app gets it.
func TestByteOrderMarkBelongsToSignedBody(t *testing.T) {
	const body = bom + githubBody
	wh := verified(t, webhook.Verify{Sender: "github", Secrets: []string{"k"}})
	r := post("/t", body, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", body))
	d, err := receiveDelivery(wh, r)
	if err != nil || string(d.Body) != body || string(d.Messages[0].Event.Data) != githubBody {
		t.Errorf("%+v, %v", d, err)
	}
	graph := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "microsoft-graph", Secrets: []string{"S3CRET"}}, Select: "."})
	got := accept(t, graph, post("/t", bom+`{"value":[{"clientState":"S3CRET","n":1}]}`))
	if string(got.Event.Data) != `{"n":1}` {
		t.Errorf("%s", got.Event.Data)
	}
	s := startTopicService(t)
	if got := accept(t, s.rule(t), snsPost(bom+s.sign(t, s.message("Notification")))); got.Event.ID == "" {
		t.Errorf("%+v", got)
	}
}

func TestByteOrderMarkHidesNoDuplicateKey(t *testing.T) {
	for _, contentType := range []string{"", "application/json", "text/plain"} {
		refuse(t, open(t, webhook.Webhook{}), post("/t", bom+`{"t":"evil","t":"ok"}`, "Content-Type", contentType), 400, "two members")
	}
	refuse(t, open(t, webhook.Webhook{}), post("/t", bom+"{\"a\":1}\n{\"a\":1,\"a\":2}", "Content-Type", "application/x-ndjson"), 400, "two members")
}

func TestBrokenJSONIsRefused(t *testing.T) {
	for _, body := range []string{
		`{"load":NaN}`, "<b>Warning</b>: x\n{\"n\":1}", `{"n":1`, `{"n":1}{`, "not JSON", bom + bom + "1", "\xff\xfe1", " ", bom,
	} {
		for _, contentType := range []string{"application/json", "application/json; charset", "Application/Problem+JSON", "text/json"} {
			for name, wh := range map[string]webhook.Webhook{
				"data": {}, "refresh": {Refresh: []string{"/a"}}, "text": {Data: "x"},
			} {
				if strings.TrimPrefix(strings.TrimSpace(body), bom) == "" && name != "data" {
					continue // nothing of the body is published
				}
				message, err := receive(open(t, wh), post("/t", body, "Content-Type", contentType))
				if err == nil || webhook.ResultOf(err) != webhook.Malformed {
					t.Errorf("%s: %q as %s: %+v, %v", name, body, contentType, message, err)
				}
			}
		}
		accept(t, open(t, webhook.Webhook{}), post("/t", strings.ToValidUTF8(body, ""), "Content-Type", "text/plain"))
	}
	refuse(t, open(t, webhook.Webhook{}), post("/t", `{"load":NaN}`, "Content-Type", "application/json"), 400, "the body isn't JSON: see its byte 9")
	refuse(t, open(t, webhook.Webhook{}), post("/t", "{\"a\":1}\n{\"load\":NaN}\n", "Content-Type", "application/x-ndjson"), 400, "line 2 of the body isn't JSON")
	refuse(t, open(t, webhook.Webhook{}), post("/t", "", "Content-Type", "application/json"), 400, "the body is empty")
	if d, err := receiveDelivery(open(t, webhook.Webhook{Refresh: []string{"/a"}}), post("/t", "", "Content-Type", "application/json")); err != nil || len(d.Refresh) != 1 {
		t.Errorf("a request without a body refreshes nothing: %+v, %v", d, err)
	}
}

func TestAppGetsBrokenJSONThatIsNotPublished(t *testing.T) {
	wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "none"}, Forward: webhook.ForwardSync})
	d, err := receiveDelivery(wh, post("/t", `{"load":NaN}`, "Content-Type", "application/json"))
	if err != nil || d.Refused == nil || string(d.Body) != `{"load":NaN}` {
		t.Errorf("%+v, %v", d, err)
	}
}

// A body that the module can't read for secrets is refused, and never published
// with them.
func TestBodyThatCannotBeRedactedIsRefused(t *testing.T) {
	const form, octets = "application/x-www-form-urlencoded", "application/octet-stream"
	wh := slackRule(t)
	for _, tc := range []struct{ contentType, body string }{
		{octets, bom + `{"token":"S3CRET"}`}, {"", bom + `{"token":"S3CRET"}`},
		{"application/x-ndjson", `{"token":"S3CRET"}` + "\n" + `{"token":"S3CRET"}`},
		{"text/plain", `{"token":"S3CRET"} x`}, {"text/plain", "token=S3CRET"}, {octets, "{\x00\"\x00t\x00"},
		{octets, "\xff\xfe{\x00\"\x00t\x00o\x00k\x00e\x00n\x00"}, {"", "token=S3CRET"},
		{form, bom + "token=S3CRET&a=1"}, {form, "a=1;token=S3CRET"}, {form, "a=1&tok%zzen=S3CRET"},
		{form, "a[token]=S3CRET&a[b]=1"}, {form, "payload=" + url.QueryEscape(` {"token":"S3CRET"}`)},
		{form, "x=1&y=" + url.QueryEscape(` [{"token":"S3CRET"}]`)}, {form, "x=1&y=" + url.QueryEscape(bom+`{"token":"S3CRET"}`)},
		{"multipart/form-data; boundary=b", multipartBody("b", `form-data; name="token"`, "S3CRET", `form-data; name="a"`, "1")},
		{"multipart/form-data; boundary=c", multipartBody("b", `form-data; name="token"`, "S3CRET")},
		{"multipart/form-data", multipartBody("b", `form-data; name="token"`, "S3CRET")},
	} {
		d, err := receiveDelivery(wh, fromSlack(tc.body, tc.contentType))
		if err != nil {
			if webhook.ResultOf(err) != webhook.Malformed {
				t.Errorf("%s %q: %v", tc.contentType, tc.body, err)
			}
			continue
		}
		if got := fmt.Sprintf("%s %+v", d.Messages[0].Event.Data, d.Messages); strings.Contains(got, "S3CRET") || strings.Contains(got, "tok") {
			t.Errorf("%s %q: published %s", tc.contentType, tc.body, d.Messages[0].Event.Data)
		}
	}
	// A user's text isn't JSON, and belongs to the event.
	if got := accept(t, wh, fromSlack("command=%2Fa&text=%7Btoken", form)); string(got.Event.Data) != "command=%2Fa&text=%7Btoken" {
		t.Errorf("%s", got.Event.Data)
	}
}

// multipartBody returns parts, each with its Content-Disposition and, after a
// semicolon and a line break, further headers.
func multipartBody(boundary string, parts ...string) string {
	var body strings.Builder
	for i := 0; i < len(parts); i += 2 {
		fmt.Fprintf(&body, "--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n", boundary, parts[i], parts[i+1])
	}
	return body.String() + "--" + boundary + "--\r\n"
}

func TestMultipartFormIsAFormWithoutItsFiles(t *testing.T) {
	// A Plex server sends its payload like this, with a thumbnail.
	plex := multipartBody("----WebKitFormBoundary",
		"form-data; name=\"payload\"\r\nContent-Type: application/json", `{"event":"media.play","Metadata":{"title":"Ä"}}`,
		"form-data; name=\"thumb\"; filename=\"thumb.jpg\"\r\nContent-Type: image/jpeg", "\xff\xd8\xff")
	header := []string{"Content-Type", "multipart/form-data; boundary=----WebKitFormBoundary"}
	wh := open(t, webhook.Webhook{Split: ".payload | fromjson", Event: "{json.event}", Select: ".Metadata"})
	if got := accept(t, wh, post("/t", plex, header...)).Event; got.Name != "media.play" || string(got.Data) != `{"title":"Ä"}` {
		t.Errorf("%+v", got)
	}
	if got := accept(t, open(t, webhook.Webhook{}), post("/t", plex, header...)).Event; !strings.HasPrefix(string(got.Data), "payload=%7B%22event") || strings.Contains(string(got.Data), "thumb") {
		t.Errorf("%s", got.Data)
	}
	// Jotform's and other forms: names nest as in a form, and a file that
	// nobody has chosen is a file.
	form := multipartBody("b", `form-data; name="formID"`, "42", `form-data; name="q[first]"`, "Ann & Bob",
		`form-data; name="q[last]"`, "", `form-data; name="cv"; filename=""`, "", `form-data; name="formID"; filename*=UTF-8''a`, "x")
	wh = open(t, webhook.Webhook{Topics: []string{"forms/{form.formID}", "names/{form.q.first}"}, Select: "."})
	got := accept(t, wh, post("/t", form, "Content-Type", `multipart/form-data; boundary="b"`))
	if string(got.Event.Data) != `{"formID":"42","q":{"first":"Ann & Bob","last":""}}` || strings.Join(got.Topics, " ") != "forms/42 names/Ann & Bob" {
		t.Errorf("%+v", got)
	}
}

func TestMalformedMultipartFormIsRefused(t *testing.T) {
	wh := open(t, webhook.Webhook{})
	for name, tc := range map[string]struct{ contentType, body string }{
		"no boundary":         {"multipart/form-data", multipartBody("b", `form-data; name="a"`, "1")},
		"another boundary":    {"multipart/form-data; boundary=c", multipartBody("b", `form-data; name="a"`, "1")},
		"broken off":          {"multipart/form-data; boundary=b", strings.TrimSuffix(multipartBody("b", `form-data; name="a"`, "1"), "--b--\r\n")},
		"a part with no name": {"multipart/form-data; boundary=b", multipartBody("b", "form-data", "1")},
		"no disposition":      {"multipart/form-data; boundary=b", "--b\r\n\r\n1\r\n--b--\r\n"},
		"another disposition": {"multipart/form-data; boundary=b", multipartBody("b", `attachment; name="a"`, "1")},
		"not UTF-8":           {"multipart/form-data; boundary=b", multipartBody("b", `form-data; name="a"`, "caf\xe9")},
		"empty":               {"multipart/form-data; boundary=b", ""},
	} {
		message, err := receive(wh, post("/t", tc.body, "Content-Type", tc.contentType))
		if err == nil || webhook.ResultOf(err) != webhook.Malformed {
			t.Errorf("%s: %+v, %v", name, message, err)
		}
	}
	many := make([]string, 0, 20_002)
	for range 10_001 {
		many = append(many, `form-data; name="a"; filename="f"`, "")
	}
	refuse(t, wh, post("/t", multipartBody("b", many...), "Content-Type", "multipart/form-data; boundary=b"), 400, "more than 10000 parts")
}

// The SDKs of CloudEvents send such values; see the HTTP protocol binding 1.0.2,
// section 3.1.3.2.
func TestCloudEventHeaderIsUnquotedAndThenDecoded(t *testing.T) {
	wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}}, Select: ".subject"})
	for value, want := range map[string]string{
		"caf%C3%A9": `"café"`, "100%": `"100%"`, "100% sure": `"100% sure"`, "50%25": `"50%"`, "%zz": `"%zz"`, "%": `"%"`, "%%32": `"%2"`, "%2532": `"%32"`,
		`"a b"`: `"a b"`, `"say \"hi\" \\ %20"`: `"say \"hi\" \\  "`, `"`: `"\""`, `"a`: `"\"a"`, `a"b"c`: `"abc"`, `""`: `""`, `a "b c" d`: `"a b c d"`,
		`"\"`: `"\"\\\""`, "café": `"café"`, "Euro%20%E2%82%AC%20%F0%9F%98%80": `"Euro € 😀"`,
	} {
		r := post("/t", "", "Authorization", "Bearer k", "ce-specversion", "1.0", "ce-type", "t", "ce-source", "/s", "ce-id", "1", "ce-subject", value)
		if got := string(accept(t, wh, r).Event.Data); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
	for _, value := range []string{"%C0%A0", "%ff", "\xff"} {
		r := post("/t", "", "Authorization", "Bearer k", "ce-specversion", "1.0", "ce-type", "t", "ce-source", "/s", "ce-id", "1", "ce-subject", value)
		refuse(t, wh, r, 400, "header ce-subject")
	}
}

// githubPing is the ping of docs.github.com, "Webhook events and payloads".
const githubPing = `{"zen":"Non-blocking is better than blocking.","hook_id":109948940,"hook":{"type":"Organization","id":109948940,"name":"web","active":true,"events":["*"]}}`

func TestGitHubPingIsAHandshake(t *testing.T) {
	for _, rule := range []webhook.Webhook{
		{Topics: []string{"{json.repository.full_name}"}}, {Select: ".issue.number"}, {Refresh: []string{"/{json.repository.id}"}}, {Forward: webhook.ForwardAsync},
	} {
		rule.Verify = &webhook.Verify{Sender: "github", Secrets: []string{"k"}}
		wh := provision(t, rule)
		ping := func(body, key, event string) *http.Request {
			return post("/t", body, "X-GitHub-Event", event, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, key, body), "X-GitHub-Delivery", "d")
		}
		d, err := receiveDelivery(wh, ping(githubPing, "k", "ping"))
		if err != nil || d.HandshakeResponse == nil || d.HandshakeResponse.Status != 204 || len(d.Messages) > 0 {
			t.Errorf("%+v, %v", d, err)
		}
		refuse(t, wh, ping(githubPing, "another", "ping"), 401, "signature is wrong")
		// The header isn't signed: it hides no event.
		const event = `{"action":"opened","issue":{"number":1},"repository":{"full_name":"a/b","id":1}}`
		if d, err := receiveDelivery(wh, ping(event, "k", "ping")); err != nil || d.HandshakeResponse != nil {
			t.Errorf("an event was taken for a ping: %+v, %v", d, err)
		}
	}
	sync := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k"}}, Forward: webhook.ForwardSync})
	d, err := receiveDelivery(sync, post("/t", githubPing, "X-GitHub-Event", "ping", "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", githubPing)))
	if err != nil || !d.IsHandshake {
		t.Errorf("the app doesn't get it: %+v, %v", d, err)
	}
}

func TestGitHubAndGitLabBodiesMayHave25MiB(t *testing.T) {
	large := `{"a":"` + strings.Repeat("x", 20<<20) + `"}`
	for sender, header := range map[string][]string{
		"github": {"X-Hub-Signature-256", "sha256=" + hexMAC(sha256.New, "k", large)}, "gitlab": {"X-Gitlab-Token", "k"},
	} {
		wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: sender, Secrets: []string{"k"}}, Data: "x"})
		d, err := receiveDelivery(wh, post("/t", large, header...))
		if err != nil {
			t.Fatalf("%s: %v", sender, err)
		}
		d.Release()
		refuse(t, wh, post("/t", large+strings.Repeat(" ", 6<<20), header...), 413, "the body is larger than 26214400 bytes (the rule's max_body)")
		set := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: sender, Secrets: []string{"k"}}, MaxBody: 100})
		refuse(t, set, post("/t", large, header...), 413, "the body is larger than 100 bytes (the rule's max_body)")
	}
	refuse(t, open(t, webhook.Webhook{MaxBody: 100}), post("/t", zipped(t, strings.Repeat("a", 999)), "Content-Encoding", "gzip"), 413, "max_body")
}
