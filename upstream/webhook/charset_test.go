package webhook_test

import (
	"crypto/sha256"
	"testing"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func TestBodyIsReadInTheCharsetThatItsTypeDeclares(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct{ contentType, body, want string }{
		"JSON":                 {"application/json; charset=iso-8859-1", "{\"name\":\"caf\xe9\"}", `{"name":"café"}`},
		"JSON in Windows-1252": {`application/json;charset="Windows-1252"`, "{\"a\":\"\x80 5\"}", `{"a":"€ 5"}`},
		"JSON of a suffix":     {"application/problem+json; charset=latin1", "{\"a\":\"\xe9\"}", `{"a":"é"}`},
		"JSON in UTF-16":       {"application/json", "\xff\xfe[\x00\"\x00\xac\x20\"\x00]\x00", `["€"]`},
		"lines":                {"application/x-ndjson; charset=iso-8859-1", "{\"a\":\"\xe9\"}\n{\"a\":\"\xe8\"}", "{\"a\":\"é\"}\n{\"a\":\"è\"}"},
		"plain text":           {"text/plain; charset=Shift_JIS", "\x93\xfa\x96\x7b", "日本"},
		"XML":                  {"text/xml; charset=ISO-8859-1", "<a>caf\xe9</a>", "<a>café</a>"},
		"a form":               {form + "; charset=windows-1252", "item=caf%E9&price=5+%80", "item=caf%C3%A9&price=5+%E2%82%AC"},
		"a part of a form": {"multipart/form-data; boundary=b", multipartBody("b",
			"form-data; name=\"a\"\r\nContent-Type: text/plain; charset=iso-8859-1", "\xe9", `form-data; name="b"`, "é"), "a=%C3%A9&b=%C3%A9"},
		"the charset of most": {"application/json; charset=utf-8", `{"a":"é"}`, `{"a":"é"}`},
		"a wrong default":     {"application/json; charset=iso-8859-1", `{"a":"é"}`, `{"a":"é"}`},
		"an unknown one":      {"application/json; charset=utf8mb4", `{"a":"é"}`, `{"a":"é"}`},
		"one of no text":      {"image/png; charset=iso-8859-1", "\xe9", `{"type":"image/png; charset=iso-8859-1","base64":"6Q=="}`},
	} {
		if got := accept(t, open(t, webhook.Webhook{}), post("/t", c.body, "Content-Type", c.contentType)); string(got.Event.Data) != c.want {
			t.Errorf("%s: got %q, want %q", name, got.Event.Data, c.want)
		}
	}
	mapped := open(t, webhook.Webhook{Topics: []string{"orders/{json.city}"}, Event: "{json.city}", Select: "{city}", Split: ".[]"})
	got := accept(t, mapped, post("/t", "[{\"city\":\"K\xf6ln\"}]", "Content-Type", "application/json; charset=iso-8859-1"))
	if got.Topics[0] != "orders/Köln" || got.Event.Name != "Köln" || string(got.Event.Data) != `{"city":"Köln"}` {
		t.Errorf("%+v", got)
	}
	field := open(t, webhook.Webhook{Topics: []string{"orders/{form.city}"}})
	if got := accept(t, field, post("/t", "city=K%F6ln", "Content-Type", form+"; charset=iso-8859-1")); got.Topics[0] != "orders/Köln" {
		t.Errorf("%+v", got)
	}
}

func TestBodyInUnreadableCharsetIsRefused(t *testing.T) {
	wh := open(t, webhook.Webhook{})
	refuse(t, wh, post("/t", "\xc1\xc2", "Content-Type", "text/plain; charset=ebcdic-cp-us"), 415, `the charset "ebcdic-cp-us" is unknown: send UTF-8`)
	refuse(t, wh, post("/t", "a=%C1", "Content-Type", "application/x-www-form-urlencoded; charset=ebcdic-cp-us"), 415, "send UTF-8")
	refuse(t, wh, post("/t", "\"\xff\"", "Content-Type", "application/json; charset=shift_jis"), 400, "mean nothing in its charset")
	refuse(t, wh, post("/t", "caf\xe9", "Content-Type", "text/plain"), 400, "the text is not UTF-8")
	refuse(t, wh, post("/t", "caf\xe9", "Content-Type", "text/plain; charset=utf-8"), 400, "the text is not UTF-8")
	refuse(t, wh, post("/t", multipartBody("b", "form-data; name=\"a\"\r\nContent-Type: text/plain; charset=ebcdic-cp-us", "\xc1"),
		"Content-Type", "multipart/form-data; boundary=b"), 415, "send UTF-8")
	small := open(t, webhook.Webhook{MaxBody: 4})
	refuse(t, small, post("/t", "\xe9\xe9\xe9", "Content-Type", "text/plain; charset=iso-8859-1"), 413, "in UTF-8")
}

// A charset could hide names from their check, and secrets from redaction: the module
// would publish them, or read them in another way.
func TestCharsetHidesNothingFromChecks(t *testing.T) {
	wide := "\xff\xfe"
	for _, c := range `{"a":1,"a":2}` {
		wide += string(c) + "\x00"
	}
	refuse(t, open(t, webhook.Webhook{}), post("/t", wide, "Content-Type", "application/json"), 400, "two members")
	slack := slackRule(t)
	wide = "\xff\xfe"
	for _, c := range `{"token":"S3CRET","n":1}` {
		wide += string(c) + "\x00"
	}
	if got := accept(t, slack, fromSlack(wide, "application/json")); string(got.Event.Data) != `{"n":1}` {
		t.Errorf("%s", got.Event.Data)
	}
	if got := accept(t, slack, fromSlack("token=S3CRET&a=%E9", "application/x-www-form-urlencoded; charset=iso-8859-1")); string(got.Event.Data) != "a=%C3%A9" {
		t.Errorf("%s", got.Event.Data)
	}
}

// The signature covers the bytes that were sent, and the app gets these.
func TestSignatureCoversBytesOfDeclaredCharset(t *testing.T) {
	const body = "{\"action\":\"opened\",\"title\":\"caf\xe9\"}"
	wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k"}}, Topics: []string{"a"}})
	header := []string{"Content-Type", "application/json; charset=iso-8859-1"}
	r := post("/t", body, append(header, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", body))...)
	d, err := receiveDelivery(wh, r)
	if err != nil || string(d.Body) != body || string(d.Messages[0].Event.Data) != `{"action":"opened","title":"café"}` {
		t.Errorf("%+v, %v", d, err)
	}
	converted := `{"action":"opened","title":"café"}`
	refuse(t, wh, post("/t", body, append(header, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", converted))...), 401, "signature")
}

func TestAppGetsBodyOfUnknownCharsetThatIsNotPublished(t *testing.T) {
	wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "none"}, Forward: webhook.ForwardSync})
	d, err := receiveDelivery(wh, post("/t", "\xc1", "Content-Type", "text/plain; charset=ebcdic-cp-us"))
	if err != nil || d.Refused == nil || string(d.Body) != "\xc1" {
		t.Errorf("%+v, %v", d, err)
	}
}
