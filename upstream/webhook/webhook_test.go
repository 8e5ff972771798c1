package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// open returns a rule without verification.
func open(t testing.TB, wh webhook.Webhook) *webhook.Webhook {
	t.Helper()
	wh.Verify = &webhook.Verify{Sender: "none"}
	return provision(t, wh)
}

func provision(t testing.TB, wh webhook.Webhook) *webhook.Webhook {
	t.Helper()
	if err := wh.Provision(caddy.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	return &wh
}

func post(url, body string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// receiveDelivery receives a request as Caddy does: Caddy keeps the original request in
// the context.
func receiveDelivery(wh *webhook.Webhook, r *http.Request) (*webhook.Delivery, error) {
	r.RequestURI = r.URL.RequestURI() // httptest's has a host
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, *r))
	return wh.Receive(httptest.NewRecorder(), r, caddyhttp.NewTestReplacer(r))
}

// receive returns the one message of a delivery, or nil if it has none.
func receive(wh *webhook.Webhook, r *http.Request) (*webhook.Message, error) {
	delivery, err := receiveDelivery(wh, r)
	switch {
	case err != nil && delivery != nil:
		return nil, fmt.Errorf("a delivery came with the refusal %v", err)
	case err != nil || len(delivery.Messages) == 0:
		return nil, err
	case len(delivery.Messages) > 1:
		return nil, fmt.Errorf("%d messages came", len(delivery.Messages))
	}
	return &delivery.Messages[0], nil
}

func accept(t testing.TB, wh *webhook.Webhook, r *http.Request) *webhook.Message {
	t.Helper()
	message, err := receive(wh, r)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	if message == nil {
		t.Fatal("dropped")
	}
	return message
}

// refuse wants a refusal with a status and a reason that contains the words.
func refuse(t testing.TB, wh *webhook.Webhook, r *http.Request, status int, words string) {
	t.Helper()
	message, err := receive(wh, r)
	var refused *refusal.Error
	if !errors.As(err, &refused) {
		t.Fatalf("got %+v, %v; want a refusal", message, err)
	}
	if message != nil {
		t.Errorf("a message came with the refusal: %+v", message)
	}
	if refused.Status != status || !strings.Contains(refused.Reason, words) {
		t.Errorf("got %d %q, want %d %q", refused.Status, refused.Reason, status, words)
	}
	if strings.ContainsAny(refused.Reason, "\r\n") {
		t.Errorf("the reason has a line break: %q", refused.Reason)
	}
}

func topic(t testing.TB, template string, r *http.Request) string {
	t.Helper()
	return accept(t, open(t, webhook.Webhook{Topics: []string{template}}), r).Topics[0]
}

func TestBodyIsPublishedAsItCame(t *testing.T) {
	for _, tc := range []struct{ contentType, body string }{
		{"application/json", "{ \"a\" : 1.0,\r\n\t\"b\":\"\\u2028<>\" }\n"},
		{"text/plain", "not JSON"},
		{"application/x-www-form-urlencoded", "a=1&b=%00"},
		{"application/xml", "<a>ü</a>"},
		{"image/png", "text, whatever it says"},
		{"", "\x00"},
		{"", ""},
	} {
		message := accept(t, open(t, webhook.Webhook{}), post("/t", tc.body, "Content-Type", tc.contentType))
		if string(message.Event.Data) != tc.body {
			t.Errorf("%q as %s came out as %q", tc.body, tc.contentType, message.Event.Data)
		}
	}
}

func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	for _, contentType := range []string{
		"", "text/plain", "text/html; charset=utf-8", "TEXT/CSV", "application/json", "application/problem+json",
		"application/xml", "application/soap+xml; charset", "application/x-www-form-urlencoded", "; =", "text/plain; a=b; a=c",
	} {
		refuse(t, open(t, webhook.Webhook{}), post("/t", "caf\xe9", "Content-Type", contentType), 400, "UTF-8")
	}
}

func TestBinaryBodyGetsAnEnvelope(t *testing.T) {
	message := accept(t, open(t, webhook.Webhook{}), post("/t", "\x89PNG", "Content-Type", "image/png"))
	if got := string(message.Event.Data); got != `{"type":"image/png","base64":"iVBORw=="}` {
		t.Error(got)
	}
}

func TestDefaultTopicIsThePath(t *testing.T) {
	wh := open(t, webhook.Webhook{})
	if got := accept(t, wh, post("/hooks/git%20hub?x=1", "")).Topics; len(got) != 1 || got[0] != "hooks/git hub" {
		t.Error(got)
	}
	refuse(t, wh, post("/", ""), 422, "the topic is empty")
	refuse(t, wh, post("/a%0ab", ""), 422, "control character")
}

func TestTopicTemplateUsesTheRequest(t *testing.T) {
	const body = `{"id":9007199254740993,"price":1.10,"big":1e400,"ok":true,"no":false,"s":"a \"b\" é \u00e9",
		"o":{"a.b":{"c":"deep"}},"l":["x","y"],"n":null,"e":""}`
	for template, want := range map[string]string{
		"fixed":                     "fixed",
		"orders/{json.id}":          "orders/9007199254740993",
		"{json.price}":              "1.10",
		"{json.big}":                "1e400",
		"{json.ok}-{json.no}":       "true-false",
		"{json.s}":                  `a "b" é é`,
		`{json.o.a\.b.c}`:           "deep",
		"{json.l.1}":                "y",
		"{json.l.#}":                "2",
		"{http.request.uri.path}":   "/hooks/a",
		"{http.request.uri.path.0}": "hooks",
		"{http.request.uri.query.q}/{http.request.header.X-Kind}": "1/k",
		"{http.request.method}":                                   "POST",
		`\{literal\}`:                                             "{literal}",
		`\a\`:                                                     `\a\`,
		"{http.request.host}/{json.id}":                           "example.com/9007199254740993",
	} {
		if got := topic(t, template, post("/hooks/a?q=1", body, "X-Kind", "k")); got != want {
			t.Errorf("%s came to %q, want %q", template, got, want)
		}
	}
}

func TestTemplateUsesFormFields(t *testing.T) {
	r := post("/t", "id=c&id=a%20b&empty=", "Content-Type", "application/x-www-form-urlencoded")
	if got := topic(t, "calls/{form.id}", r); got != "calls/a b" {
		t.Error(got)
	}
}

func TestDuplicateTopicIsPublishedOnce(t *testing.T) {
	wh := open(t, webhook.Webhook{Topics: []string{"a/{json.x}", "b", "a/{json.y}"}})
	if got := accept(t, wh, post("/", `{"x":1,"y":1}`)).Topics; strings.Join(got, " ") != "a/1 b" {
		t.Error(got)
	}
}

func TestRefusalNamesWhatTheTopicLacks(t *testing.T) {
	for _, tc := range []struct{ template, body, words string }{
		{"repos/{json.repository.full_name}", `{}`, `the payload has no "repository.full_name", which the topic needs`},
		{"{json.a}", `{"a":null}`, `no "a"`},
		{"{json.a}", `{"a":""}`, `no "a"`},
		{"{json.a}", `[]`, `no "a"`},
		{"{json.a}", `{"a":{"b":1}}`, `"a" in the payload is an object and not text`},
		{"{json.a}", `{"a":[1]}`, `"a" in the payload is a list and not text`},
		{"{form.a}", `b=1`, `the form has no "a", which the topic needs`},
		{"{http.request.header.X-Kind}", ``, `the request has no header X-Kind, which the topic needs`},
		{"{http.request.uri.query.kind}", ``, `the URL's query has no "kind"`},
		{"{http.request.cookie.c}", ``, `no cookie "c"`},
		{"{no.such}", ``, `{no.such} is empty`},
		{"a/{env.WEBHOOK_TEST_UNSET}", ``, `{env.WEBHOOK_TEST_UNSET} is empty`},
	} {
		wh := open(t, webhook.Webhook{Topics: []string{"ok", tc.template}})
		refuse(t, wh, post("/t", tc.body), 422, tc.words)
	}
}

func TestInvalidTopicIsRefused(t *testing.T) {
	wh := open(t, webhook.Webhook{Topics: []string{"{json.t}"}})
	for _, bad := range []string{`a\nb`, `a\rb`, `\u0000`, `a\tb`, `\u001b[31m`, `\u007f`} {
		refuse(t, wh, post("/", `{"t":"`+bad+`"}`), 422, "control character")
	}
	refuse(t, wh, post("/", "{\"t\":\"\xff\"}"), 400, "UTF-8")
	refuse(t, open(t, webhook.Webhook{Topics: []string{"{http.request.header.X}"}}), post("/", "", "X", "\xff"), 422, "not UTF-8")
	refuse(t, wh, post("/", `{"t":"`+strings.Repeat("x", 1025)+`"}`), 422, "longer than 1024 bytes")
	if got := accept(t, wh, post("/", `{"t":"`+strings.Repeat("x", 1024)+`"}`)).Topics[0]; len(got) != 1024 {
		t.Error(len(got))
	}
}

func TestInvalidJSONIsRefusedOnlyIfAFieldIsNeeded(t *testing.T) {
	for _, body := range []string{"", "a=b", `{"a":1`, `{"a":1}}`, strings.Repeat("[", 200_000)} {
		refuse(t, open(t, webhook.Webhook{Topics: []string{"{json.a}"}}), post("/", body), 400, "the body isn't JSON, which the topic needs")
		refuse(t, open(t, webhook.Webhook{Event: "{json.a}"}), post("/t", body), 400, "which the event needs")
		refuse(t, open(t, webhook.Webhook{ID: "{json.a}"}), post("/t", body), 400, "which the id needs")
		refuse(t, open(t, webhook.Webhook{Data: "{json.a}"}), post("/t", body), 400, "which the data needs")
		refuse(t, open(t, webhook.Webhook{Select: ".a"}), post("/t", body), 400, "the body isn't JSON, which select needs")
		accept(t, open(t, webhook.Webhook{}), post("/t", body))
	}
	refuse(t, open(t, webhook.Webhook{Topics: []string{"{form.a}"}}), post("/", "a=%zz"), 400, "isn't a form")
}

func TestFormInsteadOfJSONSaysWhatToChange(t *testing.T) {
	r := post("/t", "payload=%7B%7D", "Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	refuse(t, open(t, webhook.Webhook{Topics: []string{"{json.a}"}}), r, 400, "have the sender use the content type application/json")
}

func TestJSONIsParsedForAnyContentType(t *testing.T) {
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		if got := topic(t, "{json.a}", post("/", `{"a":1}`, "Content-Type", contentType)); got != "1" {
			t.Errorf("as %q: %q", contentType, got)
		}
	}
}

func TestEmptyEventNameAndIDAreLeftOut(t *testing.T) {
	for _, template := range []string{"{json.kind}", "x-{json.kind}", "{http.request.header.X-None}", "a{form.x}"} {
		wh := open(t, webhook.Webhook{Event: template, ID: template})
		got := accept(t, wh, post("/t", `{"kind":null}`)).Event
		if got.Name != "" || got.ID != "" {
			t.Errorf("%s: %+v", template, got)
		}
	}
	refuse(t, open(t, webhook.Webhook{Event: "{json.o}"}), post("/t", `{"o":{}}`), 422, "is an object and not text, which the event needs")
	refuse(t, open(t, webhook.Webhook{ID: "{json.o}"}), post("/t", `{"o":[]}`), 422, "is a list and not text, which the id needs")
}

// An event whose name no stream can send isn't lost.
func TestEventNameThatCannotBeSentIsChanged(t *testing.T) {
	for kind, want := range map[string]string{
		"order created": "order created", "error": "error_", "open": "open_", `a\nid: 7`: "a_id: 7", `a\r\nb`: "a__b",
		`a\u0000`: "a_", strings.Repeat("x", 256): strings.Repeat("x", 255), strings.Repeat("é", 200): strings.Repeat("é", 127),
	} {
		wh := open(t, webhook.Webhook{Event: "{json.kind}"})
		d, err := receiveDelivery(wh, post("/t", `{"kind":"`+kind+`"}`))
		if err != nil || len(d.Messages) != 1 || d.Messages[0].Event.Name != want || event.CheckName(want) != nil {
			t.Errorf("%.20q: %+v, %v; want the name %.20q", kind, d, err, want)
			continue
		}
		if got := len(d.Renamed); (got == 1) != (want != kind) {
			t.Errorf("%.20q: %d names were changed", kind, got)
		}
	}
}

func TestUnsendableIDBecomesAStableDigest(t *testing.T) {
	wh := open(t, webhook.Webhook{ID: "{json.id}"})
	seen := make(map[string]string)
	for _, id := range []string{
		`<abc:def@x>`, `a b`, `a\nid: 7`, `\u0000`, `é`, `a:b`, `\"`, strings.Repeat("x", 65), strings.Repeat("x", 6000),
	} {
		body := `{"id":"` + id + `"}`
		got := accept(t, wh, post("/t", body)).Event.ID
		if len(got) != 32 || event.CheckID(got) != nil {
			t.Errorf("%.20q became %q", id, got)
		}
		if again := accept(t, wh, post("/t", body)).Event.ID; again != got {
			t.Errorf("%.20q became %q and then %q", id, got, again)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%.20q and %.20q became the same", id, other)
		}
		seen[got] = id
	}
	if got := accept(t, wh, post("/t", `{"id":9007199254740993}`)).Event.ID; got != "9007199254740993" {
		t.Error(got)
	}
}

func TestSelectMakesTheData(t *testing.T) {
	for program, want := range map[string]string{
		"{action, n: .issue.number}": `{"action":"opened","n":9007199254740993}`,
		".action":                    `"opened"`, // JSON.parse must always work
		"null":                       `null`,
		"[.issue[]]":                 `[9007199254740993]`,
	} {
		wh := open(t, webhook.Webhook{Select: program})
		got := accept(t, wh, post("/t", `{"action":"opened","issue":{"number":9007199254740993}}`))
		if string(got.Event.Data) != want {
			t.Errorf("%s gave %s", program, got.Event.Data)
		}
	}
}

func TestDeliveryThatSelectDropsIsAcknowledged(t *testing.T) {
	wh := open(t, webhook.Webhook{Select: "select(.action == \"opened\")", Topics: []string{"{json.repo}"}})
	message, err := receive(wh, post("/t", `{"zen":"no repo, no topic"}`))
	if message != nil || err != nil {
		t.Errorf("%+v, %v", message, err)
	}
	refuse(t, wh, post("/t", `{"action":"opened"}`), 422, `no "repo"`)
}

func TestSelectThatFailsOrGivesSeveralValuesIsRefused(t *testing.T) {
	for program, words := range map[string]string{
		".a":                     "select: jq program failed: expected an object",
		".[]":                    "select gave 2 values, but an event has one: wrap them in [ ]",
		`error("a\nb\r\u0001c")`: "a b c",
		"error(\"x\" * 5000)":    "xxx…",
		"range(20000)":           "more than 10000 values",
	} {
		refuse(t, open(t, webhook.Webhook{Select: program}), post("/t", "[1,2]"), 422, words)
	}
}

func TestDataIsPlainTextWithoutMissingPlaceholders(t *testing.T) {
	wh := open(t, webhook.Webhook{Data: "{json.user} said {json.text}{json.none}"})
	got := accept(t, wh, post("/t", `{"user":"Ann","text":"a\nb {json.user} {env.HOME}"}`))
	if want := "Ann said a\nb {json.user} {env.HOME}"; string(got.Event.Data) != want {
		t.Errorf("%q", got.Event.Data)
	}
	refuse(t, wh, post("/t", `{"user":{}}`), 422, "is an object and not text, which the data needs")
	refuse(t, open(t, webhook.Webhook{Data: "{http.request.header.X}"}), post("/t", "", "X", "\xff"), 400, "not UTF-8")
}

func TestPlaceholdersInPayloadAreNeverExpanded(t *testing.T) {
	t.Setenv("WEBHOOK_TEST_SECRET", "hidden")
	name := t.TempDir() + "/secret"
	if err := os.WriteFile(name, []byte("hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"{env.WEBHOOK_TEST_SECRET}", "{file." + name + "}", "{json.other}", "{{json.other}}", "{", "}", "{http.request.host}",
	} {
		body := `{"a":"` + text + `","other":"expanded"}`
		if got := topic(t, "{json.a}", post("/", body)); got != text {
			t.Errorf("%s became %q", text, got)
		}
		if got := topic(t, "x{http.request.header.X}", post("/", body, "X", text)); got != "x"+text {
			t.Errorf("%s became %q", text, got)
		}
		if got := topic(t, "{form.a}", post("/", "a="+text)); got != text {
			t.Errorf("%s became %q", text, got)
		}
	}
}

func TestReplacerIsNotChanged(t *testing.T) {
	r := post("/t", `{"a":"1"}`)
	repl := caddyhttp.NewTestReplacer(r)
	wh := open(t, webhook.Webhook{Topics: []string{"{json.a}"}})
	if _, err := wh.Receive(httptest.NewRecorder(), r, repl); err != nil {
		t.Fatal(err)
	}
	if value, ok := repl.Get("json.a"); ok {
		t.Errorf("{json.a} is %v afterwards", value)
	}
}

func TestBodyCanBeReadAgain(t *testing.T) {
	r := post("/t", `{"a":"1"}`)
	wh := open(t, webhook.Webhook{Data: "{http.request.body}"})
	if _, err := wh.Receive(httptest.NewRecorder(), r, caddyhttp.NewTestReplacer(r)); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r.Body); string(body) != `{"a":"1"}` || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func TestBodyOverLimitIsRefused(t *testing.T) {
	wh := open(t, webhook.Webhook{MaxBody: 10})
	accept(t, wh, post("/t", strings.Repeat("x", 10)))
	refuse(t, wh, post("/t", strings.Repeat("x", 11)), 413, "larger than 10 bytes")
	chunked := post("/t", strings.Repeat("x", 11))
	chunked.ContentLength = -1
	refuse(t, wh, chunked, 413, "larger than 10 bytes")

	standard := open(t, webhook.Webhook{})
	accept(t, standard, post("/t", strings.Repeat("x", 1<<20)))
	refuse(t, standard, post("/t", strings.Repeat("x", 1<<20+1)), 413, "larger than 1048576 bytes")
}

func TestLimitOfAnotherHandlerIsRefusedAlike(t *testing.T) {
	r := post("/t", "0123456789")
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 5)
	refuse(t, open(t, webhook.Webhook{}), r, 413, "larger than 5 bytes")
}

func TestBodyThatBreaksOffIsRefused(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{
		{io.ErrUnexpectedEOF, 400},
		{errors.New("stream reset"), 400},
		{os.ErrDeadlineExceeded, 408},
	} {
		r := post("/t", "")
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(tc.err)))
		r.ContentLength = -1
		refuse(t, open(t, webhook.Webhook{}), r, tc.status, "the body")
	}
}

func TestEarlyDataNeedsID(t *testing.T) {
	early := func(header ...string) *http.Request {
		r := post("/t", "{}", header...)
		r.TLS = &tls.ConnectionState{HandshakeComplete: false}
		return r
	}
	refuse(t, open(t, webhook.Webhook{}), early(), 425, "TLS handshake")
	wh := open(t, webhook.Webhook{ID: "{http.request.header.X-Id}"})
	refuse(t, wh, early(), 425, "TLS handshake")
	accept(t, wh, early("X-Id", "1"))
	done := early()
	done.TLS.HandshakeComplete = true
	accept(t, wh, done)
}

func TestRuleErrorSaysWhatToWrite(t *testing.T) {
	none := &webhook.Verify{Sender: "none"}
	for _, tc := range []struct {
		wh    webhook.Webhook
		words string
	}{
		{webhook.Webhook{}, "write `verify <sender> <secret>`, or `verify none`"},
		{webhook.Webhook{Verify: none, MaxBody: -1}, "max_body is -1"},
		{webhook.Webhook{Verify: none, Select: ".", Data: "x"}, "use one of them"},
		{webhook.Webhook{Verify: none, Select: ".a |"}, "select: jq program `.a |`"},
		{webhook.Webhook{Verify: none, Topics: []string{"a", ""}}, "topic is empty"},
		{webhook.Webhook{Verify: none, Topics: []string{"a{json.b"}}, "topic `a{json.b`: the placeholder {json.b is not closed"},
		{webhook.Webhook{Verify: none, Event: "a}b"}, `event ` + "`a}b`" + `: unbalanced '}' at byte 1: write a literal brace as \}`},
		{webhook.Webhook{Verify: none, ID: "{a{b}}"}, "unbalanced '{'"},
		{webhook.Webhook{Verify: none, Data: "{}"}, "the placeholder {} has no name"},
		{webhook.Webhook{Verify: none, Data: "{form.}"}, "write {form.NAME}"},
		{webhook.Webhook{Verify: none, Data: "{json.}"}, "write {json.PATH}"},
		{webhook.Webhook{Verify: none, Data: "{json}"}, "write {json.PATH}"},
		{webhook.Webhook{Verify: none, Data: "{file./etc/passwd}"}, "templates don't read files"},
	} {
		err := mistake(t, tc.wh)
		if err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%+v: %v, want %q", tc.wh, err, tc.words)
		}
	}
}

func TestRequestWithoutBodyIsAnEmptyEvent(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/t", nil)
	r.Body = nil
	if got := accept(t, open(t, webhook.Webhook{}), r).Event.Data; len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestRuleIsSafeForConcurrentUse(t *testing.T) {
	wh := open(t, webhook.Webhook{Topics: []string{"{json.a}"}, Select: "{a}", ID: "{json.a}"})
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 50 {
				if got := accept(t, wh, post("/t", `{"a":"x"}`)).Event; !bytes.Equal(got.Data, []byte(`{"a":"x"}`)) {
					t.Errorf("%q", got.Data)
				}
			}
		})
	}
}
