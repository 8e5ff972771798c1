package publish_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/publish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret    = "a token"
	jwtSecret = "0123456789abcdef0123456789abcdef"
	form      = "application/x-www-form-urlencoded"
	plainJSON = "application/json"
	lines     = "application/x-ndjson"
)

func rule(t testing.TB, p *publish.Publish) *publish.Publish {
	t.Helper()
	if len(p.Tokens) == 0 && p.JWT == nil {
		p.Tokens = []string{secret}
	}
	t.Cleanup(p.Cleanup)
	if err := p.Provision(caddy.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	return p
}

func post(contentType, body string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/publish", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+secret)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// receive returns either messages or a refusal.
func receive(t testing.TB, p *publish.Publish, r *http.Request) ([]hub.Message, *refusal.Error) {
	t.Helper()
	var c access.Credential
	if p.JWT != nil {
		c, _ = p.JWT.Take(r)
	}
	messages, err := p.Receive(httptest.NewRecorder(), r, c)
	var refused *refusal.Error
	if errors.As(err, &refused) == (err == nil) || (err == nil) != (len(messages) > 0) {
		t.Fatalf("%v, %v", messages, err)
	}
	return messages, refused
}

func text(messages []hub.Message) (all []string) {
	for _, m := range messages {
		all = append(all, fmt.Sprintf("%s %s|%s|%s", m.Topics, m.Event.ID, m.Event.Name, m.Event.Data))
	}
	return all
}

func TestRequestBecomesEvents(t *testing.T) {
	for name, c := range map[string]struct {
		contentType, body string
		want              []string
	}{
		"a form":                    {form, "topic=a&data=hello", []string{"[a] ||hello"}},
		"a form with everything":    {form, "topic=b&topic=a&topic=b&event=e&id=1&data=x%20y%0Az+%26", []string{"[b a] 1|e|x y\nz &"}},
		"a form without data in it": {form, "topic=a&data=", []string{"[a] ||"}},
		"text in a form is no JSON": {form, `topic=a&data={"a": 1}`, []string{`[a] ||{"a": 1}`}},
		"JSON":                      {plainJSON, `{"topic":"a","data":{"n": 12345678901234567890.10, "b" : [1, "x y"]}}`, []string{`[a] ||{"n":12345678901234567890.10,"b":[1,"x y"]}`}},
		"JSON with everything":      {plainJSON + "; charset=UTF-8", ` {"topic":["a","b"],"event":"e","id":"1","data":"hello"}`, []string{`[a b] 1|e|"hello"`}},
		"null is data, and absent":  {plainJSON, `{"topic":"a","event":null,"id":null,"data":null}`, []string{"[a] ||null"}},
		"a list":                    {plainJSON, ` [{"topic":"a","data":1},{"topic":"b","data":2}]`, []string{"[a] ||1", "[b] ||2"}},
		"a byte order mark":         {plainJSON, "\ufeff" + `[{"topic":"a","data":"\ufeffx"}]`, []string{`[a] ||"\ufeffx"`}},
		"one before lines":          {lines, "\ufeff{\"topic\":\"a\",\"data\":1}\n", []string{"[a] ||1"}},
		"ISO-8859-1":                {plainJSON + ";charset=iso-8859-1", "{\"topic\":\"K\xf6ln\",\"data\":\"caf\xe9\"}", []string{`[Köln] ||"café"`}},
		"lines in Windows-1252":     {lines + `;charset="windows-1252"`, "{\"topic\":\"a\",\"data\":\"5 \x80\"}", []string{`[a] ||"5 €"`}},
		"a form in Windows-1252":    {form + "; charset=windows-1252", "topic=K%F6ln&data=5+%80", []string{"[Köln] ||5 €"}},
		"a charset that isn't real": {plainJSON + ";charset=iso-8859-1", `{"topic":"a","data":"café"}`, []string{`[a] ||"café"`}},
		"UTF-16 with a mark":        {plainJSON, "\xff\xfe{\x00\"\x00t\x00o\x00p\x00i\x00c\x00\"\x00:\x00\"\x00a\x00\"\x00,\x00\"\x00d\x00a\x00t\x00a\x00\"\x00:\x001\x00}\x00", []string{"[a] ||1"}},
		"a list of one":             {plainJSON, `[{"topic":"a","data":1}]`, []string{"[a] ||1"}},
		"lines":                     {lines, "{\"topic\":\"a\",\"data\":1}\r\n\n{\"topic\":\"b\",\"data\":[ ]}", []string{"[a] ||1", "[b] ||[]"}},
	} {
		messages, refused := receive(t, rule(t, new(publish.Publish)), post(c.contentType, c.body))
		if got := text(messages); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, refused, c.want)
		}
	}
}

func TestRefusalSaysWhatToSendInstead(t *testing.T) {
	many := strings.Repeat(`{"topic":"a","data":1}`+"\n", publish.MaxEvents+1)
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		reason            string
	}{
		"no content type":           {"", "topic=a", 415, "application/json"},
		"plain text":                {"text/plain", "topic=a", 415, "application/json"},
		"a multipart form":          {"multipart/form-data; boundary=x", "", 415, "application/x-www-form-urlencoded"},
		"an unknown charset":        {plainJSON + ";charset=ebcdic-cp-us", "{\"topic\":\"a\",\"data\":\"\xc1\"}", 415, "send UTF-8"},
		"unknown, of a form":        {form + ";charset=ebcdic-cp-us", "topic=a&data=%C1", 415, "send UTF-8"},
		"bytes without meaning":     {plainJSON + ";charset=shift_jis", "{\"topic\":\"a\",\"data\":\"\xff\"}", 400, "charset"},
		"JSON that is called form":  {form, `{"topic":"a","data":1}`, 415, "--json"},
		"a broken form":             {form, "topic=%zz", 400, "isn't a form"},
		"broken JSON":               {plainJSON, `{"topic":`, 400, "isn't JSON"},
		"two objects":               {plainJSON, `{"topic":"a","data":1}{}`, 400, "isn't JSON"},
		"a broken line":             {lines, "{\"topic\":\"a\",\"data\":1}\n{", 400, "line 2"},
		"JSON that isn't UTF-8":     {plainJSON, "{\"topic\":\"a\",\"data\":\"\xff\"}", 400, "UTF-8"},
		"a line that isn't UTF-8":   {lines, "{\"topic\":\"a\",\"data\":\"\xff\"}", 400, "UTF-8"},
		"a topic that isn't UTF-8":  {plainJSON, "{\"topic\":\"\xff\",\"data\":1}", 400, "UTF-8"},
		"one in a line":             {lines, "{\"topic\":\"\xff\",\"data\":1}", 400, "UTF-8"},
		"a form that isn't UTF-8":   {form, "topic=a&data=%ff", 400, "UTF-8"},
		"an empty form":             {form, "", 422, "no data"},
		"nothing":                   {plainJSON, "", 400, "isn't JSON"},
		"no lines":                  {lines, "\n\n", 422, "no event"},
		"an empty list":             {plainJSON, "[]", 422, "no event"},
		"not an object":             {plainJSON, `"a"`, 422, "not an object"},
		"null":                      {plainJSON, `null`, 422, "not an object"},
		"a list in a list":          {plainJSON, `[[]]`, 422, "not an object"},
		"no topic":                  {plainJSON, `{"data":1}`, 422, "no topic"},
		"no topic in the list":      {plainJSON, `{"topic":[],"data":1}`, 422, "no topic"},
		"no topic in a form":        {form, "data=1", 422, "no topic"},
		"no data":                   {plainJSON, `{"topic":"a"}`, 422, "null"},
		"no data in a form":         {form, "topic=a", 422, "data="},
		"an empty topic":            {form, "topic=&data=", 422, "empty"},
		"a topic of our own":        {plainJSON, `{"topic":"\u0000poll","data":1}`, 422, "control character"},
		"a topic with a line break": {form, "topic=a%0ab&data=", 422, "control character"},
		"a long topic":              {form, "topic=" + strings.Repeat("a", 1025) + "&data=", 422, "1024"},
		"a topic that is a number":  {plainJSON, `{"topic":7,"data":1}`, 422, "list of strings"},
		"an id that is a number":    {plainJSON, `{"topic":"a","id":7,"data":1}`, 422, "id is not a string"},
		"an id with a line break":   {form, "topic=a&id=a%0adata:&data=", 422, "printable ASCII"},
		"a name with a line break":  {form, "topic=a&event=a%0adata:&data=", 422, "line breaks"},
		"a name that is taken":      {form, "topic=a&event=error&data=", 422, "taken"},
		"two names":                 {form, "topic=a&event=a&event=b&data=", 422, "more than once"},
		"a misspelt member":         {plainJSON, `{"topics":"a","data":1}`, 422, `"topics" is unknown`},
		"a long name, misspelt":     {plainJSON, `{"` + strings.Repeat("a", 41) + `":1}`, 422, strings.Repeat("a", 40) + "…"},
		"one of 40 bytes":           {plainJSON, `{"` + strings.Repeat("a", 40) + `":1}`, 422, strings.Repeat("a", 40) + `" is unknown`},
		"a misspelt field":          {form, "Topic=a&data=", 422, `"Topic" is unknown`},
		"one of a batch":            {plainJSON, `[{"topic":"a","data":1},{"topic":"b"}]`, 422, "event 2 of 2"},
		"too many topics":           {form, "data=" + strings.Repeat("&topic=a", 101), 422, "100"},
		"too many events":           {lines, many, 422, "1000"},
		"no line after too many":    {lines, many + "{", 422, "1000"},
		"too many events in a list": {plainJSON, "[" + strings.TrimSuffix(strings.ReplaceAll(many, "\n", ","), ",") + "]", 422, "1000"},
		"too large":                 {form, "topic=a&data=" + strings.Repeat("x", 1<<20), 413, "1048576"},
	} {
		messages, refused := receive(t, rule(t, new(publish.Publish)), post(c.contentType, c.body))
		if refused == nil || refused.Status != c.status || !strings.Contains(refused.Reason, c.reason) || len(refused.Reason) > 1200 {
			t.Errorf("%s: %q, %v; want %d with %q", name, text(messages), refused, c.status, c.reason)
		}
		if refused != nil && strings.Contains(refused.Reason, "1 of 1") {
			t.Errorf("%s: the only event is counted: %v", name, refused)
		}
	}
}

func TestLimitsIncludeTheirValue(t *testing.T) {
	for name, c := range map[string]struct {
		p                 publish.Publish
		contentType, body string
		status            int
	}{
		"1000 events":                  {publish.Publish{}, lines, strings.Repeat(`{"topic":"a","data":1}`+"\n", publish.MaxEvents), 0},
		"100 topics":                   {publish.Publish{}, form, "data=" + strings.Repeat("&topic=a", 100), 0},
		"as large as max_body":         {publish.Publish{MaxBody: 20}, form, "topic=a&data=" + strings.Repeat("x", 7), 0},
		"larger than max_body":         {publish.Publish{MaxBody: 20}, form, "topic=a&data=" + strings.Repeat("x", 8), 413},
		"larger than without max_body": {publish.Publish{MaxBody: 2 << 20}, form, "topic=a&data=" + strings.Repeat("x", 1<<20), 0},
	} {
		messages, refused := receive(t, rule(t, &c.p), post(c.contentType, c.body))
		if (refused == nil) != (c.status == 0) || refused != nil && refused.Status != c.status {
			t.Errorf("%s: %d events, %v, want %d", name, len(messages), refused, c.status)
		}
	}
}

func TestCompressedBodyIsRefused(t *testing.T) {
	_, refused := receive(t, rule(t, new(publish.Publish)), post(plainJSON, "x", "Content-Encoding", "gzip"))
	if refused == nil || refused.Status != http.StatusUnsupportedMediaType {
		t.Error(refused)
	}
}

func TestPublishNeedsToken(t *testing.T) {
	t.Setenv("PUBLISH_TOKEN", "from the environment")
	p := rule(t, &publish.Publish{Tokens: []string{"old", "{env.PUBLISH_TOKEN}"}})
	for header, status := range map[string]int{
		"Bearer old":                  0,
		"bearer from the environment": 0,
		"Bearer":                      401,
		"":                            401,
		"Bearer ol":                   401,
		"Bearer oldd":                 401,
		"Bearer {env.PUBLISH_TOKEN}":  401,
		"Basic old":                   401,
		"old":                         401,
	} {
		messages, refused := receive(t, p, post(form, "topic=a&data=", "Authorization", header))
		if (refused == nil) != (status == 0) || refused != nil && (refused.Status != status || !strings.HasPrefix(refused.Challenge, "Bearer")) {
			t.Errorf("%q: %q, %+v", header, text(messages), refused)
		}
	}
}

func TestUnauthorizedBodyIsNotRead(t *testing.T) {
	body := strings.NewReader("topic=a&data=")
	r := httptest.NewRequest(http.MethodPost, "/publish", body)
	if _, refused := receive(t, rule(t, new(publish.Publish)), r); refused == nil || refused.Status != 401 || body.Len() != len("topic=a&data=") {
		t.Errorf("%v, %d bytes are left", refused, body.Len())
	}
}

func TestRequestWithoutTokenIsToldWhereToSendIt(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/publish", nil)
	if _, refused := receive(t, rule(t, new(publish.Publish)), r); refused == nil || !strings.Contains(refused.Reason, "Authorization: Bearer") {
		t.Error(refused)
	}
}

func token(claims jwt.MapClaims) string {
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		panic(err)
	}
	return signed
}

func TestJWTPublishesOnlyOnTopicsOfItsClaim(t *testing.T) {
	both := rule(t, &publish.Publish{Tokens: []string{secret}, JWT: &access.JWT{Keys: []string{jwtSecret}, Cookie: "session"}})
	renamed := rule(t, &publish.Publish{JWT: &access.JWT{Keys: []string{jwtSecret}, Claim: "may"}})
	all := token(jwt.MapClaims{"publish": []string{"orders/*", "news"}})
	for name, c := range map[string]struct {
		p      *publish.Publish
		token  string
		body   string
		status int
	}{
		"named":                          {both, all, "topic=orders/1&topic=news&data=", 0},
		"one of two isn't named":         {both, all, "topic=orders/1&topic=secrets&data=", 403},
		"deeper than its pattern":        {both, all, "topic=orders/1/items&data=", 403},
		"a token of who watches":         {both, token(jwt.MapClaims{"topics": []string{"**"}}), "topic=news&data=", 403},
		"the secret goes for everything": {both, secret, "topic=secrets&data=", 0},
		"neither":                        {both, "wrong", "topic=news&data=", 401},
		"another claim's name":           {renamed, token(jwt.MapClaims{"may": "**"}), "topic=a/b&data=", 0},
		"the default one's then":         {renamed, all, "topic=news&data=", 403},
	} {
		messages, refused := receive(t, c.p, post(form, c.body, "Authorization", "Bearer "+c.token))
		if (refused == nil) != (c.status == 0) || refused != nil && refused.Status != c.status {
			t.Errorf("%s: %q, %v", name, text(messages), refused)
		}
	}
	r := post(form, "topic=news&data=", "Cookie", "session="+all, "Sec-Fetch-Site", "cross-site")
	r.Header.Del("Authorization")
	if _, refused := receive(t, both, r); refused == nil || refused.Status != http.StatusForbidden {
		t.Errorf("a form on another site publishes with the cookie: %v", refused)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if _, refused := receive(t, both, r); refused != nil {
		t.Error(refused)
	}
}

func TestCleanupCancelsFetchOfKeySet(t *testing.T) {
	began := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done() // until the client gives up
	}))
	defer issuer.Close()
	p := rule(t, &publish.Publish{JWT: &access.JWT{JWKS: issuer.URL}})
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"publish": "**"}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan *refusal.Error)
	r := post(form, "topic=a&data=", "Authorization", "Bearer "+signed)
	go func() {
		_, refusal := receive(t, p, r)
		refused <- refusal
	}()
	select {
	case <-began:
		p.Cleanup()
	case got := <-refused:
		t.Fatalf("the key set isn't fetched: %v", got)
	}
	select {
	case got := <-refused:
		if got == nil || got.Status != http.StatusServiceUnavailable {
			t.Error(got)
		}
	case <-time.After(4 * time.Second): // less than a fetch may take
		t.Error("the fetch goes on")
		<-refused
	}
}

func TestEarlyDataNeedsIDForEachEvent(t *testing.T) {
	for body, status := range map[string]int{
		`{"topic":"a","id":"1","data":1}`:                                  0,
		`{"topic":"a","data":1}`:                                           425,
		`[{"topic":"a","id":"1","data":1},{"topic":"a","id":"","data":2}]`: 425,
	} {
		r := post(plainJSON, body)
		r.TLS = new(tls.ConnectionState)
		if _, refused := receive(t, rule(t, new(publish.Publish)), r); (refused == nil) != (status == 0) || refused != nil && refused.Status != status {
			t.Errorf("%s: %v", body, refused)
		}
	}
}

func TestConfigurationErrorSaysWhatToWrite(t *testing.T) {
	t.Setenv("EMPTY", "")
	for want, p := range map[string]*publish.Publish{
		"write `token":        {},
		"token 1: ":           {Tokens: []string{"{env.EMPTY}"}},
		"token 1 is empty":    {Tokens: []string{"", secret}},
		"is the variable set": {Tokens: []string{"{env.NOT_SET_ANYWHERE}"}},
		"openssl rand":        {Tokens: []string{secret, ""}},
		"a positive number":   {Tokens: []string{secret}, MaxBody: -1},
		"jwt needs":           {JWT: new(access.JWT)},
	} {
		err := p.Provision(caddy.NewReplacer())
		p.Cleanup()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret+" ") {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}

func TestValidateResolvesNoPlaceholder(t *testing.T) {
	for want, p := range map[string]*publish.Publish{
		"jwt needs":         {JWT: new(access.JWT)},
		"write `token":      {},
		"openssl rand":      {Tokens: []string{"{env.NOT_SET_ANYWHERE}", ""}},
		"a positive number": {Tokens: []string{secret}, MaxBody: -1},
	} {
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
	for _, token := range []string{"{env.NOT_SET_ANYWHERE}", "{$NOT_SET_ANYWHERE}", "{"} {
		if err := (&publish.Publish{Tokens: []string{token}}).Validate(); err != nil {
			t.Errorf("%s: %v", token, err)
		}
	}
}

// FuzzReceive sends authorized requests: the hub can publish every event that
// Receive accepts.
func FuzzReceive(f *testing.F) {
	for _, body := range []string{
		`{"topic":"a","event":"e","id":"1","data":{"n":1.50}}`, `[{"topic":["a","b"],"data":null}]`, "{\"topic\":\"a\",\"data\":1}\n\n{}",
		"topic=a&topic=b&event=e&id=1&data=x%0Ay", "[[[[", "\xff",
	} {
		for kind := range 3 {
			f.Add(kind, body)
		}
	}
	p := rule(f, &publish.Publish{MaxBody: 64 << 10})
	kinds := []string{form, plainJSON, lines}
	f.Fuzz(func(t *testing.T, kind int, body string) {
		messages, refused := receive(t, p, post(kinds[uint(kind)%3], body))
		if refused != nil && (refused.Status < 400 || refused.Status >= 500 || strings.ContainsAny(refused.Reason, "\r\n")) {
			t.Errorf("refused with %v", refused)
		}
		if len(messages) > publish.MaxEvents {
			t.Errorf("%d events", len(messages))
		}
		for _, m := range messages {
			if _, err := m.Event.Encode(); err != nil || len(m.Topics) == 0 {
				t.Errorf("%+v: %v", m, err)
			}
			for _, topic := range m.Topics {
				if err := hub.CheckTopic(topic); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
