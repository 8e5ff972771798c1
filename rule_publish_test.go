package caddysse_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

const (
	publishToken = "a-token"
	jwtSecret    = "0123456789abcdef0123456789abcdef"
	formType     = "application/x-www-form-urlencoded"
)

// publishSite is a site where trusted services publish and clients with a JWT
// subscribe.
const publishSite = `
	sse /publish {
		publish {
			token old ` + publishToken + `
			jwt {
				key ` + jwtSecret + `
			}
			max_body 4KiB
		}
	}
	sse /mine {
		topic news users/{http.auth.user.id}
		jwt {
			key   ` + jwtSecret + `
			query token
		}
	}
	sse /chosen {
		topic {query.topic}
		jwt {
			key    ` + jwtSecret + `
			cookie session
		}
	}
	sse /open {
		topic a b
	}
	respond "the app"
`

// signedToken returns a token with this lifetime.
func signedToken(t testing.TB, lasts time.Duration, claims jwt.MapClaims) string {
	t.Helper()
	claims["exp"] = time.Now().Add(lasts).Unix()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// publishedAs is the response to a publish request.
type publishedAs struct {
	IDs        []string
	Streams    int
	Duplicates []string
}

// publishOver publishes a body with the secret. It must succeed.
func (s *site) publishOver(protocol, contentType, body string) (answer publishedAs) {
	s.t.Helper()
	resp := s.doOver(protocol, "POST", "/publish", body, "Authorization", "Bearer "+publishToken, "Content-Type", contentType)
	err := json.Unmarshal([]byte(resp.body), &answer)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" || err != nil {
		s.t.Fatalf("publishing %s: %s %q", body, resp.Status, resp.body)
	}
	return answer
}

func TestPublishedEventsReachOpenStreams(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, "", publishSite)
			c := s.open(protocol, "/open")
			answer := s.publishOver(protocol, formType, "topic=a&event=greeting&data=hello%0Aworld")
			if e := c.expect("greeting", "hello\nworld"); len(answer.IDs) != 1 || e.ID != answer.IDs[0] || answer.Streams != 1 {
				t.Errorf("the sender received %+v, the event has the id %q", answer, e.ID)
			}
			s.publishOver(protocol, "application/json", `{"topic": ["a", "b"], "data": {"total": 12345678901234567890.10}}`)
			c.expect("", `{"total":12345678901234567890.10}`)

			batch := `[{"topic": "a", "id": "1", "data": 1}, {"topic": "elsewhere", "data": 2}, {"topic": "b", "data": 3}]`
			if answer := s.publishOver(protocol, "application/json", batch); len(answer.IDs) != 3 || answer.IDs[0] != "1" || answer.Streams != 1 || answer.Duplicates != nil {
				t.Errorf("%+v", answer)
			}
			c.expect("", "1")
			c.expect("", "3")
			again := s.publishOver(protocol, "application/x-ndjson", "{\"topic\": \"a\", \"id\": \"1\", \"data\": 1}\n{\"topic\": \"a\", \"id\": \"2\", \"data\": 2}\n")
			if len(again.Duplicates) != 1 || again.Duplicates[0] != "1" || again.Streams != 1 {
				t.Errorf("a duplicate and another: %+v", again)
			}
			if again = s.publishOver(protocol, formType, "topic=a&id=2&data=2"); len(again.Duplicates) != 1 || again.Streams != 0 {
				t.Errorf("a duplicate reaches no stream: %+v", again)
			}
			c.expect("", "2")
		})
	}
}

func TestPublishRequestPublishesAllEventsOrNone(t *testing.T) {
	s := startSite(t, "", publishSite)
	c := s.open("HTTP/1.1", "/open")
	own := signedToken(t, time.Hour, jwt.MapClaims{"publish": []string{"a"}})
	for name, r := range map[string]struct {
		token, contentType, body string
		status                   int
	}{
		"a wrong token":         {"wrong", formType, "topic=a&data=1", 401},
		"no token":              {"", formType, "topic=a&data=1", 401},
		"another topic":         {own, "application/json", `[{"topic":"a","data":1},{"topic":"b","data":1}]`, 403},
		"a JWT for who watches": {signedToken(t, time.Hour, jwt.MapClaims{"topics": "**"}), formType, "topic=a&data=1", 403},
		"one of two is wrong":   {publishToken, "application/json", `[{"topic":"a","data":1},{"topic":"","data":1}]`, 422},
		"not JSON":              {publishToken, "application/json", `{"topic":"a"`, 400},
		"another type":          {publishToken, "text/plain", `{"topic":"a","data":1}`, 415},
		"too large":             {publishToken, formType, "topic=a&data=" + strings.Repeat("x", 4<<10), 413},
	} {
		for _, protocol := range protocols {
			header := []string{"Content-Type", r.contentType}
			if r.token != "" {
				header = append(header, "Authorization", "Bearer "+r.token)
			}
			resp := s.doOver(protocol, "POST", "/publish", r.body, header...)
			if challenged := strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer"); resp.StatusCode != r.status || r.status == 401 && !challenged || strings.Contains(resp.body, publishToken) {
				t.Errorf("%s: %s %q", name, resp.Status, resp.body)
			}
		}
	}
	if resp := s.do("GET", "/publish", ""); resp.body != "the app" {
		t.Errorf("GET: %s %q", resp.Status, resp.body)
	}
	resp := s.do("POST", "/publish", "topic=a&data=last", "Authorization", "Bearer "+own, "Content-Type", formType)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s", resp.Status, resp.body)
	}
	c.expect("", "last")
}

func TestJWTIdentifiesSubscriberAndLimitsTopics(t *testing.T) {
	s := startSite(t, "", publishSite)
	for _, protocol := range protocols {
		ann := signedToken(t, time.Hour, jwt.MapClaims{"sub": "ann"})
		mine := s.open(protocol, "/mine", "Authorization", "Bearer "+ann)
		byQuery := s.open(protocol, "/mine?token="+ann)
		named := s.open(protocol, "/chosen?topic=orders/1&topic=orders/2", "Cookie", "session="+signedToken(t, time.Hour, jwt.MapClaims{"topics": []string{"orders/*"}}))
		s.publishOver(protocol, formType, "topic=users/bob&data=not+for+ann")
		s.publishOver(protocol, formType, "topic=users/ann&data=for+ann")
		s.publishOver(protocol, formType, "topic=orders/2&data=order")
		mine.expect("", "for ann")
		byQuery.expect("", "for ann")
		named.expect("", "order")
		for name, r := range map[string]struct {
			path, token string
			status      int
		}{
			"no token":                    {"/mine", "", 401},
			"one that isn't one":          {"/mine", "x", 401},
			"expired":                     {"/mine", signedToken(t, -time.Hour, jwt.MapClaims{"sub": "ann"}), 401},
			"a topic that isn't named":    {"/mine", signedToken(t, time.Hour, jwt.MapClaims{"sub": "ann", "topics": "news"}), 403},
			"chosen and not named":        {"/chosen?topic=secrets", signedToken(t, time.Hour, jwt.MapClaims{"topics": "orders/*"}), 403},
			"chosen, and nothing is said": {"/chosen?topic=orders/1", ann, 403},
		} {
			header := []string{"Accept", "text/event-stream"}
			if r.token != "" {
				header = append(header, "Authorization", "Bearer "+r.token)
			}
			if resp := s.doOver(protocol, "GET", r.path, "", header...); resp.StatusCode != r.status || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") && r.path[1] == 'm' {
				t.Errorf("%s: %s: %s %q", protocol, name, resp.Status, resp.body)
			}
		}
	}
}

func TestStreamEndsWhenTokenExpires(t *testing.T) {
	s := startSite(t, "", publishSite)
	var clients []*client
	began := time.Now()
	for _, protocol := range protocols {
		clients = append(clients, s.open(protocol, "/mine", "Authorization", "Bearer "+signedToken(t, 3*time.Second, jwt.MapClaims{"sub": "ann"})))
	}
	for _, c := range clients {
		c.ended()
	}
	if took := time.Since(began); took < 1500*time.Millisecond || took > 15*time.Second {
		t.Errorf("they ended after %v", took)
	}
}

// jwksServer stands in for a login server with a key set.
type jwksServer struct {
	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	down    bool
	fetches atomic.Int32
}

// rotate replaces all keys with a new one.
func (k *jwksServer) rotate(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = map[string]*ecdsa.PrivateKey{id: key}
}

func (k *jwksServer) token(t *testing.T, id string) string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "ann", "exp": time.Now().Add(time.Hour).Unix()})
	token.Header["kid"] = id
	text, err := token.SignedString(k.keys[id])
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (k *jwksServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.fetches.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	var set jose.JSONWebKeySet
	for id, key := range k.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"})
	}
	if err := json.NewEncoder(w).Encode(set); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func TestJWKSIsFetchedAndRotated(t *testing.T) {
	keys := new(jwksServer)
	keys.rotate(t, "1")
	directives := fmt.Sprintf("sse /mine {\n topic users/{http.auth.user.id}\n jwt {\n jwks http://%s/keys\n }\n}", startBackend(t, keys.ServeHTTP))
	s := startSite(t, "", directives)
	if keys.fetches.Load() != 0 {
		t.Error("keys are fetched while the configuration is loaded")
	}
	for _, protocol := range protocols {
		s.open(protocol, "/mine", "Authorization", "Bearer "+keys.token(t, "1"))
	}
	if n := keys.fetches.Load(); n != 2 { // one for each rule: the site exists twice
		t.Errorf("%d fetches for three streams", n)
	}
	old := keys.token(t, "1")
	keys.rotate(t, "2")
	// A reload fetches again, as ten seconds without a fetch would.
	s.reload("", directives+"\nrespond reloaded")
	s.open("HTTP/2.0", "/mine", "Authorization", "Bearer "+keys.token(t, "2"))
	if resp := s.do("GET", "/mine", "", "Accept", "text/event-stream", "Authorization", "Bearer "+old); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a key that was taken out: %s", resp.Status)
	}
	keys.mu.Lock()
	keys.down = true
	keys.mu.Unlock()
	s.reload("", directives)
	resp := s.do("GET", "/mine", "", "Accept", "text/event-stream", "Authorization", "Bearer "+keys.token(t, "2"))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("while keys can't be fetched: %s %q", resp.Status, resp.body)
	}
}

func TestQueryTokenNeverReachesLogsOrNextHandlers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	global := "log everything {\n output file " + file + " {\n roll_disabled\n }\n level DEBUG\n }"
	s := startSite(t, global, publishSite+"\nlog")
	ann := signedToken(t, time.Hour, jwt.MapClaims{"sub": "ann"})
	handled := 0
	for _, protocol := range protocols {
		c := s.open(protocol, "/mine?a=1&token="+ann)
		c.close()
		for _, request := range [][]string{
			{"GET", "/mine?token=" + ann, "Accept", "application/json"},
			{"POST", "/mine?t%6fken=" + ann},
			{"GET", "/mine?token=" + ann + "x", "Accept", "text/event-stream"},
		} {
			resp := s.doOver(protocol, request[0], request[1], "", request[2:]...)
			if resp.StatusCode != 400 && resp.StatusCode != 401 || strings.Contains(resp.body, "the app") {
				t.Errorf("%s %v: %s %q", protocol, request, resp.Status, resp.body)
			}
		}
		handled += 4
	}
	if resp := s.do("GET", "/mine?a=logged", "", "Accept", "application/json"); resp.body != "the app" {
		t.Errorf("without a token: %s %q", resp.Status, resp.body)
	}
	var log string
	waitFor(t, "all requests in the log", func() bool {
		content, err := os.ReadFile(file)
		log = string(content)
		return err == nil && strings.Count(log, "handled request, without the token in its query") == handled && strings.Contains(log, "/mine?a=logged")
	})
	// Not even the signature's last bytes, in any encoding.
	if strings.Contains(log, ann[len(ann)-20:]) || !strings.Contains(log, `/mine?a=1"`) {
		t.Errorf("the token is in the log, or the line in its place is missing:\n%s", log)
	}
}

func TestAuthorizationCheckHidesJWTFromBackend(t *testing.T) {
	var checks sync.Map
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		checks.Store(r.RequestURI, r.Header.Get("X-Viewer"))
		if r.URL.Path != "/api/orders" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	s := startSite(t, "", strings.Replace(publishSite, `respond "the app"`, "", 1)+`
	sse /checked {
		topic {query.topic}
		authorize /api/{query.topic}
		jwt {
			key   `+jwtSecret+`
			query token
		}
	}
	reverse_proxy /api/* `+backend+` {
		header_up X-Viewer {http.auth.user.id}
	}`)
	ann := signedToken(t, time.Hour, jwt.MapClaims{"sub": "ann"})
	for _, protocol := range protocols {
		c := s.open(protocol, "/checked?topic=orders&token="+ann)
		s.publishOver(protocol, formType, "topic=orders&data=hello")
		c.expect("", "hello")
		c.close()
	}
	if resp := s.do("GET", "/checked?topic=secrets&token="+ann, "", "Accept", "text/event-stream"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("refused by the backend: %s %q", resp.Status, resp.body)
	}
	named := signedToken(t, time.Hour, jwt.MapClaims{"topics": "news"})
	if resp := s.do("GET", "/checked?topic=orders", "", "Accept", "text/event-stream", "Authorization", "Bearer "+named); resp.StatusCode != http.StatusForbidden {
		t.Errorf("not in the claim: %s %q", resp.Status, resp.body)
	}
	if _, ok := checks.Load("/api/orders"); !ok {
		t.Error("the backend got no check")
	}
	checks.Range(func(uri, viewer any) bool {
		if strings.Contains(uri.(string), "token") || viewer != "ann" {
			t.Errorf("the backend got %s as %q", uri, viewer)
		}
		return true
	})
}
