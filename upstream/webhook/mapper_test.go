package webhook_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func zipped(t testing.TB, content string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestGzippedBodyIsVerifiedRawAndMappedDecoded(t *testing.T) {
	wh := provision(t, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "github", Secrets: []string{"k"}}, Topics: []string{"{json.a}"},
	})
	body := zipped(t, `{"a":"x"}`)
	for _, coding := range []string{"gzip", "GZIP", "x-gzip"} {
		r := post("/t", body, "Content-Encoding", coding, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", body))
		got := accept(t, wh, r)
		if got.Topics[0] != "x" || string(got.Event.Data) != `{"a":"x"}` {
			t.Errorf("%+v", got)
		}
	}
	r := post("/t", body, "Content-Encoding", "gzip", "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", `{"a":"x"}`))
	refuse(t, wh, r, 401, "the signature is wrong")
}

func TestGzippedBodyCanBeReadAgainRaw(t *testing.T) {
	body := zipped(t, `{"a":"x"}`)
	r := post("/t", body, "Content-Encoding", "gzip")
	if _, err := open(t, webhook.Webhook{}).Receive(nil, r, caddyhttp.NewTestReplacer(r)); err != nil {
		t.Fatal(err)
	}
	if again, err := io.ReadAll(r.Body); string(again) != body || err != nil {
		t.Errorf("%q, %v", again, err)
	}
}

func TestDecodedBodyIsLimited(t *testing.T) {
	wh := open(t, webhook.Webhook{MaxBody: 1000})
	accept(t, wh, post("/t", zipped(t, strings.Repeat("x", 1000)), "Content-Encoding", "gzip"))
	refuse(t, wh, post("/t", zipped(t, strings.Repeat("x", 1001)), "Content-Encoding", "gzip"), 413, "larger than 1000 bytes when it is unzipped")
	bomb := zipped(t, strings.Repeat("\x00", 900_000)) // some 900 bytes
	refuse(t, wh, post("/t", bomb, "Content-Encoding", "gzip"), 413, "larger than 1000 bytes")
}

// Only who unpacks a bomb to its end finds out that its checksum is wrong.
func TestDecodingStopsAtLimit(t *testing.T) {
	wh := open(t, webhook.Webhook{MaxBody: 1000})
	bomb := []byte(zipped(t, strings.Repeat("\x00", 900_000)))
	bomb[len(bomb)-8] ^= 1
	refuse(t, wh, post("/t", string(bomb), "Content-Encoding", "gzip"), 413, "larger than 1000 bytes when it is unzipped")
	large := open(t, webhook.Webhook{})
	refuse(t, large, post("/t", string(bomb), "Content-Encoding", "gzip"), 400, "isn't gzip")
}

func TestBodyThatContradictsItsContentEncodingIsRefused(t *testing.T) {
	wh := open(t, webhook.Webhook{})
	whole := zipped(t, strings.Repeat("abc", 100))
	for _, body := range []string{"", "{}", whole[:len(whole)-1], whole[:5], whole + "x", strings.Replace(whole, whole[10:12], "xx", 1)} {
		refuse(t, wh, post("/t", body, "Content-Encoding", "gzip"), 400, "isn't gzip")
	}
	for _, coding := range []string{"br", "gzip, gzip", "gzip,br", "deflate"} {
		refuse(t, wh, post("/t", whole, "Content-Encoding", coding), 415, "neither gzip nor identity")
	}
	refuse(t, wh, post("/t", whole, "Content-Encoding", "gzip", "Content-Encoding", "gzip"), 415, "neither gzip nor identity")
	accept(t, wh, post("/t", "{}", "Content-Encoding", "identity"))
}

// events returns the names, IDs, topics and data of a delivery, in order.
func events(t testing.TB, wh *webhook.Webhook, r *http.Request) string {
	t.Helper()
	delivery, err := receiveDelivery(wh, r)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	var all []string
	for _, m := range delivery.Messages {
		all = append(all, fmt.Sprintf("%s %s %s %s", strings.Join(m.Topics, "+"), m.Event.Name, m.Event.ID, m.Event.Data))
	}
	return strings.Join(all, "\n")
}

func TestSplitMakesOneEventOfEachElement(t *testing.T) {
	wh := open(t, webhook.Webhook{
		Split: ".orders[]", Topics: []string{"orders/{json.id}"}, Event: "{json.kind}", ID: "{http.request.header.X-Id}", Select: "{id}",
	})
	got := events(t, wh, post("/t", `{"orders":[{"id":9007199254740993,"kind":"paid"},{"id":2,"kind":"sent"}]}`, "X-Id", "d"))
	want := "orders/9007199254740993 paid d-1 {\"id\":9007199254740993}\norders/2 sent d-2 {\"id\":2}"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := events(t, wh, post("/t", `{"orders":[]}`, "X-Id", "d")); got != "" {
		t.Error(got)
	}
}

func TestSplitElementKeepsItsOwnID(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: ".[]", ID: "{json.id}"})
	if got := events(t, wh, post("/t", `[{"id":"a"},{"id":"b"},{}]`)); got != "t  a {\"id\":\"a\"}\nt  b {\"id\":\"b\"}\nt   {}" {
		t.Error(got)
	}
	long := open(t, webhook.Webhook{Split: ".[]", ID: "{http.request.header.X-Id}"})
	delivery, err := receiveDelivery(long, post("/t", `[1,2]`, "X-Id", strings.Repeat("x", 64)))
	if err != nil || len(delivery.Messages[0].Event.ID) != 32 || delivery.Messages[0].Event.ID == delivery.Messages[1].Event.ID {
		t.Errorf("%+v, %v", delivery, err)
	}
}

func TestSplitEventsTakeTheirIDsFromSignedHeaders(t *testing.T) {
	v := vectors["svix"]
	at(t, v.at, func(t *testing.T) {
		wh := provision(t, webhook.Webhook{Split: "1, 2", Verify: &webhook.Verify{Sender: "standard-webhooks", Secrets: []string{v.secret}}})
		delivery, err := receiveDelivery(wh, v.request(same))
		if err != nil || delivery.ID != standardID || delivery.Messages[0].Event.ID != standardID+"-1" || delivery.Messages[1].Event.ID != standardID+"-2" {
			t.Errorf("%+v, %v", delivery, err)
		}
	})
}

func TestSplitBodyIsPublishedWholeOrNotAtAll(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: ".[]", Topics: []string{"{json.a}"}})
	refuse(t, wh, post("/t", `[{"a":1},{"b":2}]`), 422, `the payload has no "a", which the topic needs`)
	refuse(t, wh, post("/t", `[{"a":1},7]`), 422, `no "a"`)
	refuse(t, wh, post("/t", `{"a":1}x`), 400, "the body isn't JSON, which split needs")
	refuse(t, wh, post("/t", "[\"caf\xe9\"]"), 400, "the text is not UTF-8")
	refuse(t, open(t, webhook.Webhook{Split: ".a.b[]"}), post("/t", `[1]`), 422, "split: jq program failed")
	refuse(t, open(t, webhook.Webhook{Split: "range(10001)"}), post("/t", `1`), 422, "more than 10000 values")
}

func TestJSONLinesAreAListForPrograms(t *testing.T) {
	const body = "{\"a\":1.10}\r\n\n {\"a\":9007199254740993} \n{\"a\":\"x\"}"
	for _, contentType := range []string{"application/x-ndjson", "application/ndjson; charset=utf-8", "application/jsonl", "application/x-jsonlines"} {
		wh := open(t, webhook.Webhook{Split: ".[]", Topics: []string{"t/{json.a}"}})
		got := events(t, wh, post("/", body, "Content-Type", contentType))
		if want := "t/1.10   {\"a\":1.10}\nt/9007199254740993   {\"a\":9007199254740993}\nt/x   {\"a\":\"x\"}"; got != want {
			t.Errorf("%s\n%s", contentType, got)
		}
		one := open(t, webhook.Webhook{Topics: []string{"{json.1.a}"}})
		if got := accept(t, one, post("/", body, "Content-Type", contentType)); got.Topics[0] != "9007199254740993" || string(got.Event.Data) != body {
			t.Errorf("%+v", got)
		}
		refuse(t, wh, post("/", "{}\n\n{\"a\":", "Content-Type", contentType), 400, "line 3 of the body isn't JSON")
		refuse(t, wh, post("/", strings.Repeat("1\n", 10_001), "Content-Type", contentType), 400, "more than 10000 lines")
		refuse(t, open(t, webhook.Webhook{}), post("/t", "\xff", "Content-Type", contentType), 400, "UTF-8")
	}
}

func TestFormIsAnObjectForPrograms(t *testing.T) {
	form := func(body string) *http.Request {
		return post("/t", body, "Content-Type", "application/x-www-form-urlencoded")
	}
	whole := open(t, webhook.Webhook{Select: "."})
	for body, want := range map[string]string{
		"a=1&b=x+y%26":                      `{"a":"1","b":"x y&"}`,
		"a[b][c]=1&a[b][d]=2&a[e]=3":        `{"a":{"b":{"c":"1","d":"2"},"e":"3"}}`,
		"a%5Bb%5D=1":                        `{"a":{"b":"1"}}`,
		"a[]=1&a[]=2":                       `{"a":["1","2"]}`,
		"a[b][]=1&a[b][]=2":                 `{"a":{"b":["1","2"]}}`,
		"l[][n]=1&l[][v]=2&l[][n]=3":        `{"l":[{"n":"1","v":"2"},{"n":"3"}]}`,
		"a[0]=x&a[1]=y":                     `{"a":{"0":"x","1":"y"}}`,
		"a=1&a=2":                           `{"a":"2"}`,
		"a[b=1&c]=2&[d]=3&e[f]g=4&h[[i]]=5": `{"[d]":"3","a[b":"1","c]":"2","e[f]g":"4","h[[i]]":"5"}`,
		"":                                  `{}`,
		"&&a&=b":                            `{"":"b","a":""}`,
	} {
		if got := string(accept(t, whole, form(body)).Event.Data); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	refuse(t, whole, form("a=1&a[b]=2"), 400, `the form has "a" both as text and with fields or items, which select needs`)
	refuse(t, whole, form("a[]=1&a[b]=2"), 400, `both as text and with fields or items`)
	refuse(t, whole, form("a[b]=1&a=2"), 400, `both as text`)
	refuse(t, whole, form("a=%zz"), 400, "the body isn't a form")
	refuse(t, whole, form("a=%ff"), 400, "the form's text is not UTF-8")
	refuse(t, whole, form(strings.Repeat("a&", 10_001)), 400, "more than 10000 fields")
	refuse(t, whole, form("a"+strings.Repeat("[b]", 40)+"=1"), 400, "nested more than 32 deep")

	split := open(t, webhook.Webhook{Split: ".l[]", Topics: []string{"t/{json.n}"}})
	if got := events(t, split, form("l[][n]=1&l[][n]=2")); got != "t/1   {\"n\":\"1\"}\nt/2   {\"n\":\"2\"}" {
		t.Error(got)
	}
}

func TestNestedFormFieldHasNameAndPath(t *testing.T) {
	r := func() *http.Request {
		return post("/t", "user[name]=ann&user[tags][]=a&user[tags][]=b&x.y=dot", "Content-Type", "application/x-www-form-urlencoded")
	}
	for template, want := range map[string]string{
		"{form.user[name]}": "ann", "{form.user.name}": "ann", "{form.user.tags.1}": "b", "{form.x.y}": "dot",
	} {
		if got := topic(t, template, r()); got != want {
			t.Errorf("%s: %q", template, got)
		}
	}
	refuse(t, open(t, webhook.Webhook{Topics: []string{"{form.user.none}"}}), r(), 422, `the form has no "user.none", which the topic needs`)
	refuse(t, open(t, webhook.Webhook{Topics: []string{"{form.user.tags}"}}), r(), 422, `"user.tags" in the payload is a list and not text`)
}

func TestCloudEventModesGiveSameEvent(t *testing.T) {
	wh := provision(t, webhook.Webhook{
		Verify: &webhook.Verify{Sender: "token", Header: "X-Token", Secrets: []string{"k"}},
		Topics: []string{"{json.subject}"}, Event: "{json.type}", ID: "{json.id}", Select: ".data",
	})
	binary := []string{"X-Token", "k", "ce-specversion", "1.0", "ce-type", "order.paid", "ce-source", "/shop", "ce-id", "1", "ce-subject", "caf%C3%A9"}
	structured := `{"specversion":"1.0","type":"order.paid","source":"/shop","id":"1","subject":"café","data":{"n":9007199254740993}}`
	for name, r := range map[string]*http.Request{
		"binary":     post("/t", `{"n":9007199254740993}`, append(binary, "Content-Type", "application/json")...),
		"structured": post("/t", structured, "X-Token", "k", "Content-Type", "application/cloudevents+json; charset=utf-8"),
		"batch":      post("/t", "["+structured+"]", "X-Token", "k", "Content-Type", "application/cloudevents-batch+json"),
	} {
		if got := events(t, wh, r); got != `café order.paid 1 {"n":9007199254740993}` {
			t.Errorf("%s: %s", name, got)
		}
	}
	batch := "[" + structured + "," + strings.Replace(structured, `"id":"1"`, `"id":"2"`, 1) + "]"
	got := events(t, wh, post("/t", batch, "X-Token", "k", "Content-Type", "application/cloudevents-batch+json"))
	if strings.Count(got, "order.paid") != 2 || !strings.Contains(got, "order.paid 2") {
		t.Error(got)
	}
}

func TestCloudEventDataIsJSONOrTextOrBytes(t *testing.T) {
	wh := verified(t, webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}})
	head := []string{"Authorization", "Bearer k", "ce-specversion", "1.0", "ce-type", "t", "ce-source", "/s", "ce-id", "1"}
	for _, tc := range []struct{ contentType, body, member, want string }{
		{"application/json", `[1]`, "data", `[1]`},
		{"application/vnd.a+json", `"x"`, "data", `"x"`},
		{"", `{"a":1}`, "data", `{"a":1}`},
		{"", `hello`, "data", `"hello"`},
		{"text/plain", `{"a":1}`, "data", `"{\"a\":1}"`},
		{"image/png", "\x89PNG", "data_base64", `"iVBORw=="`},
		{"image/png", "", "datacontenttype", `"image/png"`},
	} {
		r := post("/t", tc.body, append(head, "Content-Type", tc.contentType)...)
		got := accept(t, wh, r).Event
		var event map[string]json.RawMessage
		if err := json.Unmarshal(got.Data, &event); err != nil || string(event[tc.member]) != tc.want || string(event["source"]) != `"/s"` {
			t.Errorf("%s %q: %s", tc.contentType, tc.body, got.Data)
		}
		if got.Name != "t" || len(got.ID) != 32 {
			t.Errorf("%+v", got)
		}
	}
	refuse(t, wh, post("/t", "{", append(head, "Content-Type", "application/json")...), 400, "the body isn't JSON")
	refuse(t, wh, post("/t", "\xff", append(head, "Content-Type", "text/plain")...), 400, "UTF-8")
	refuse(t, wh, post("/t", "", append(head, "ce-id", "2")...), 400, "header ce-id comes more than once")
	refuse(t, wh, post("/t", "", head[:8]...), 400, "no header ce-id")
	for body, words := range map[string]string{
		`{}`: `no "id"`, `[]`: "not a CloudEvent", `null`: "not a CloudEvent", `x`: "isn't JSON", `{"id":1}`: `no "id"`,
	} {
		refuse(t, wh, post("/t", body, "Authorization", "Bearer k", "Content-Type", "application/cloudevents+json"), 400, words)
	}
	for body, words := range map[string]string{`{}`: "not a list", `null`: "not a list", `[1]`: "not a list", `[{}]`: `no "id"`} {
		refuse(t, wh, post("/t", body, "Authorization", "Bearer k", "Content-Type", "application/cloudevents-batch+json"), 400, words)
	}
	if got := events(t, wh, post("/t", "[]", "Authorization", "Bearer k", "Content-Type", "application/cloudevents-batch+json")); got != "" {
		t.Error(got)
	}
}

// The signature doesn't cover the headers: anyone on the way could add them.
func TestSignedBodyIgnoresCloudEventsHeaders(t *testing.T) {
	forged := []string{"ce-specversion", "1.0", "ce-type", "t", "ce-source", "/s", "ce-id", "1", "ce-user", "victim"}
	for _, verify := range []webhook.Verify{
		{Sender: "github", Secrets: []string{"k"}},
		{Sender: "hmac", Secrets: []string{"k"}, Header: "X-Hub-Signature-256", Prefix: "sha256="},
	} {
		wh := provision(t, webhook.Webhook{Verify: &verify, Topics: []string{"users/{json.user}"}})
		body := `{"user":"ann"}`
		r := post("/t", body, append(forged, "X-Hub-Signature-256", "sha256="+hexMAC(sha256.New, "k", body))...)
		if got := accept(t, wh, r); string(got.Event.Data) != body || got.Topics[0] != "users/ann" {
			t.Errorf("%+v", got)
		}
	}
}

func TestHeaderWithInvalidAttributeNameIsIgnored(t *testing.T) {
	wh := provision(t, webhook.Webhook{Verify: &webhook.Verify{Sender: "cloudevents", Secrets: []string{"k"}}, Select: "keys"})
	r := post("/t", "", "Authorization", "Bearer k", "ce-specversion", "1.0", "ce-type", "t", "ce-source", "/s", "ce-id", "1",
		"ce-data", "x", "ce-data-base64", "x", "ce-datacontenttype", "x", "ce-", "x", "ce-"+strings.Repeat("a", 65), "x", "ce-ext1", "y")
	if got := string(accept(t, wh, r).Event.Data); got != `["ext1","id","source","specversion","type"]` {
		t.Error(got)
	}
}

func TestDeliveryThatWhenDropsIsAcknowledged(t *testing.T) {
	for program, kept := range map[string]bool{
		`.a == 1`: true, `.a`: true, `""`: true, `0`: true, `{}`: true, `true, true`: true,
		`.a == 2`: false, `.none`: false, `empty`: false, `false`: false, `true, false`: false, `select(.b)`: false,
	} {
		wh := open(t, webhook.Webhook{When: program, Topics: []string{"{json.topic}"}})
		delivery, err := receiveDelivery(wh, post("/t", `{"a":1,"topic":"t"}`))
		if err != nil || (len(delivery.Messages) == 1) != kept {
			t.Errorf("%s: %+v, %v", program, delivery, err)
		}
	}
	drop := open(t, webhook.Webhook{When: "false", Topics: []string{"{json.none}"}, Event: "{json.none.x}"})
	if message, err := receive(drop, post("/t", `{}`)); message != nil || err != nil {
		t.Errorf("%+v, %v", message, err)
	}
	refuse(t, open(t, webhook.Webhook{When: ".a"}), post("/t", "x"), 400, "the body isn't JSON, which when needs")
	refuse(t, open(t, webhook.Webhook{When: ".a.b"}), post("/t", `{"a":1}`), 422, "when: jq program failed")
	some := open(t, webhook.Webhook{Split: ".[]", When: ".keep", ID: "{http.request.header.X-Id}"})
	if got := events(t, some, post("/t", `[{"keep":false},{"keep":true}]`, "X-Id", "d")); got != `t  d-2 {"keep":true}` {
		t.Error(got)
	}
}

func TestEarlyDataNeedsIDForEachElement(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: ".[]", ID: "{json.id}"})
	r := post("/t", `[{"id":1},{}]`)
	r.TLS = early()
	refuse(t, wh, r, 425, "TLS handshake")
	r = post("/t", `[{"id":1},{"id":2}]`)
	r.TLS = early()
	if delivery, err := receiveDelivery(wh, r); err != nil || len(delivery.Messages) != 2 {
		t.Errorf("%+v, %v", delivery, err)
	}
}

func TestProgramErrorNamesItsOption(t *testing.T) {
	for words, wh := range map[string]webhook.Webhook{
		"split: jq program": {Split: ".["}, "when: jq program": {When: "|"},
	} {
		wh.Verify = &webhook.Verify{Sender: "none"}
		if err := mistake(t, wh); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
}

func TestEventsOfOneRequestWithSameIDAreAllPublished(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: ".[]", ID: "{json.id}", Select: ".n"})
	ids := func(body string) (ids []string) {
		delivery, err := receiveDelivery(wh, post("/t", body))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range delivery.Messages {
			ids = append(ids, message.Event.ID)
		}
		return ids
	}
	const body = `[{"id":"a","n":1},{"id":"a","n":2},{"id":"a","n":1},{"id":"a","n":3},{"id":"b","n":1}]`
	got := ids(body)
	if got[0] != "a" || got[2] != "a" || got[4] != "b" || got[1] == "a" || got[3] == "a" || got[1] == got[3] {
		t.Errorf("%q", got)
	}
	if again := ids(body); !slices.Equal(again, got) {
		t.Errorf("%q, and sent again %q", got, again)
	}
}

func TestProgramsOfOneRequestShareOneBudget(t *testing.T) {
	wh := open(t, webhook.Webhook{Split: "range(5000)", When: "last(range(200000)) > 0"})
	defer webhook.SetMaxProgramTime(20 * time.Millisecond)() // each part takes less, all together take seconds
	refuse(t, wh, post("/t", "1"), 422, "the programs of one request ran for more than")
}
