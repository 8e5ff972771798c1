package caddysse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/store"
)

func init() { caddy.RegisterModule(testStore{}) }

// testStore opens the store that openTestStore returns.
type testStore struct{}

// openTestStore is set by the test.
var openTestStore func() (store.Store, error)

func (testStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse.stores.of_a_test", New: func() caddy.Module { return new(testStore) }}
}

func (testStore) OpenStore(string) (store.Store, error) { return openTestStore() }

// flakyStore fails while fails is set.
type flakyStore struct {
	store.Store
	fails atomic.Bool
}

func (s *flakyStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	if s.fails.Load() {
		return errors.New("no room")
	}
	return s.Store.Append(entries, records)
}

// app is the app that webhooks are forwarded to. It records their requests.
type app struct {
	mu       sync.Mutex
	requests []appRequest
	answer   http.HandlerFunc
}

type appRequest struct {
	method, uri, host, body string
	header                  http.Header
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.requests = append(a.requests, appRequest{r.Method, r.RequestURI, r.Host, string(body), r.Header.Clone()})
	answer := a.answer
	a.mu.Unlock()
	answer(w, r)
}

func (a *app) respond(answer http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *app) received() []appRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]appRequest(nil), a.requests...)
}

func respondWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-App", "yes")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func startApp(t testing.TB) (*app, string) {
	a := &app{answer: respondWith(http.StatusCreated, "thanks")}
	return a, startBackend(t, a.ServeHTTP)
}

const forwardSyncSite = `
	sse /hooks/shop {
		hub %[1]s
		webhook {
			verify token X-Token "` + secret + `"
			topic  orders/{json.order}
			id     {header.X-Delivery}
			when   ` + "`.kind != \"noise\"`" + `
			forward
		}
	}
	sse /events {
		hub %[1]s
		topic orders/1
	}
	reverse_proxy %[2]s`

func TestAppAnswersForwardedWebhookBeforePublish(t *testing.T) {
	a, address := startApp(t)
	hub := newHubName()
	s := startSite(t, "sse "+hub, fmt.Sprintf(forwardSyncSite, hub, address))
	for i, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			c := s.open(protocol, "/events")
			before := len(a.received())
			send := func(id, body string) response {
				return s.doOver(protocol, "POST", "/hooks/shop?a=b%2fc", body, "X-Token", secret, "X-Delivery", id, "Content-Type", "text/x-odd")
			}
			id := fmt.Sprint("d", i)
			body := `{ "order": 1,  "kind":"paid" }` + "\n"
			for range 2 { // the second is a duplicate, which the app receives, too
				if resp := send(id, body); resp.StatusCode != http.StatusCreated || resp.body != "thanks" || resp.Header.Get("X-App") != "yes" {
					t.Fatalf("got %s %q %v", resp.Status, resp.body, resp.Header)
				}
			}
			for _, body := range []string{`{"order":1,"kind":"noise"}`, `{"no":"order"}`, `not JSON`, ""} {
				if resp := send("other"+body, body); resp.StatusCode != http.StatusCreated {
					t.Errorf("%q got %s", body, resp.Status)
				}
			}
			a.respond(respondWith(http.StatusTeapot, "no"))
			if resp := send(id+"-refused", body); resp.StatusCode != http.StatusTeapot || resp.body != "no" {
				t.Errorf("got %s %q", resp.Status, resp.body)
			}
			a.respond(respondWith(http.StatusCreated, "thanks"))
			if resp := s.doOver(protocol, "POST", "/hooks/shop", body, "X-Token", "wrong"); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("got %s", resp.Status)
			}
			// A webhook that the app has refused is published when it is repeated.
			if resp := send(id+"-refused", `{"order":1,"kind":"last"}`); resp.StatusCode != http.StatusCreated {
				t.Errorf("got %s", resp.Status)
			}
			c.expect("", strings.TrimSuffix(body, "\n")+"\n")
			c.expect("", `{"order":1,"kind":"last"}`)

			got := a.received()[before:]
			if len(got) != 8 {
				t.Fatalf("the app got %d requests: %v", len(got), got)
			}
			first := got[0]
			if first.body != body || first.uri != "/hooks/shop?a=b%2fc" || first.method != "POST" || first.header.Get("X-Token") != secret || first.header.Get("Content-Type") != "text/x-odd" {
				t.Errorf("the app got %+v", first)
			}
		})
	}
}

func TestForwardedWebhookThatCannotBeStoredFails(t *testing.T) {
	a, address := startApp(t)
	log := &flakyStore{Store: store.NewMemory()}
	openTestStore = func() (store.Store, error) { return log, nil }
	hub := newHubName()
	s := startSite(t, "sse "+hub+" {\n store of_a_test\n }", fmt.Sprintf(forwardSyncSite, hub, address))
	c := s.open("HTTP/2.0", "/events")
	a.respond(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"app"`)
		for range 64 { // more than any buffer holds
			_, _ = io.WriteString(w, strings.Repeat("x", 4096))
			_ = http.NewResponseController(w).Flush()
		}
	})
	log.fails.Store(true)
	for _, protocol := range protocols {
		resp := s.doOver(protocol, "POST", "/hooks/shop", `{"order":1}`, "X-Token", secret, "X-Delivery", "d1")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "5" || resp.Header.Get("Etag") != "" || strings.Contains(resp.body, "xx") {
			t.Errorf("%s: got %s %v %.100q", protocol, resp.Status, resp.Header, resp.body)
		}
	}
	log.fails.Store(false)
	if resp := s.do("POST", "/hooks/shop", `{"order":1}`, "X-Token", secret, "X-Delivery", "d1"); resp.StatusCode != http.StatusOK || len(resp.body) != 64*4096 {
		t.Errorf("got %s, %d bytes", resp.Status, len(resp.body))
	}
	c.expect("", `{"order":1}`)
}

func TestForwardWithoutNextHandlerIsRefused(t *testing.T) {
	hub := newHubName()
	s := startSite(t, "sse "+hub, strings.Replace(fmt.Sprintf(forwardSyncSite, hub, "X"), "reverse_proxy X", "", 1))
	if resp := s.do("POST", "/hooks/shop", `{"order":1}`, "X-Token", secret); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
	s.reload("sse "+hub, fmt.Sprintf(forwardSyncSite, hub, "127.0.0.1:1"))
	if resp := s.do("POST", "/hooks/shop", `{"order":1}`, "X-Token", secret); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("an app that is down: got %s %q", resp.Status, resp.body)
	}
}

func TestForwardLetsAppAnswerHandshakes(t *testing.T) {
	a, address := startApp(t)
	s := startSite(t, "", `
	sse /hooks/slack {
		webhook {
			verify slack "`+secret+`"
			forward
		}
	}
	sse /hooks/x {
		webhook {
			verify x "`+secret+`"
			forward
		}
	}
	reverse_proxy `+address)
	a.respond(respondWith(http.StatusOK, "the app's"))
	now := strconv.FormatInt(time.Now().Unix(), 10)
	body := `{"type":"url_verification","challenge":"c"}`
	if resp := s.do("POST", "/hooks/slack", body, fromSlack(now, body)...); resp.StatusCode != http.StatusOK || resp.body != "the app's" {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
	if resp := s.do("GET", "/hooks/x?crc_token=t", ""); resp.StatusCode != http.StatusOK || resp.body != "the app's" {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
	if resp := s.do("POST", "/hooks/slack", body); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unsigned one got %s", resp.Status)
	}
	if got := len(a.received()); got != 2 {
		t.Errorf("the app got %d requests", got)
	}
}

func TestConcurrentDuplicatesArePublishedOnceWithSameResponse(t *testing.T) {
	hub := newHubName()
	s := startSite(t, "sse "+hub, `
	sse /hooks/a {
		hub `+hub+`
		webhook {
			verify token X-Token "`+secret+`"
			topic  a
			id     {header.X-Delivery}
			split  .[]
		}
	}
	sse /events {
		hub `+hub+`
		topic a
	}`)
	c := s.open("HTTP/2.0", "/events")
	for _, protocol := range protocols {
		var wg sync.WaitGroup
		answers := make([]string, 50)
		for i := range answers {
			wg.Go(func() {
				resp := s.doOver(protocol, "POST", "/hooks/a", `[1,2]`, "X-Token", secret, "X-Delivery", protocol)
				answers[i] = resp.Status + resp.body
			})
		}
		wg.Wait()
		for _, answer := range answers {
			if answer != answers[0] || !strings.HasPrefix(answer, "202") {
				t.Fatalf("got %q and %q", answer, answers[0])
			}
		}
		c.expect("", "1")
		c.expect("", "2")
	}
	s.do("POST", "/hooks/a", `["last"]`, "X-Token", secret)
	c.expect("", `"last"`) // without events in between
}

const remembering = `
	sse /hooks/a {
		hub %[1]s
		webhook {
			verify token X-Token "` + secret + `"
			topic  a
			id     {header.X-Delivery}
			when   ` + "`.want`" + `
			%[2]s
		}
	}
	sse /hooks/b {
		hub %[1]s
		webhook {
			verify token X-Token "` + secret + `"
			topic  a
			id     {header.X-Delivery}
		}
	}
	sse /events {
		hub %[1]s
		topic a
	}`

func TestIdempotencyKeysSurviveRestartPerRule(t *testing.T) {
	hub := newHubName()
	global := "sse " + hub + " {\n store file " + t.TempDir() + "\n history 1\n }" // events leave the history at once
	s := startSite(t, global, fmt.Sprintf(remembering, hub, ""))
	send := func(rule, id, body string) string {
		t.Helper()
		resp := s.do("POST", "/hooks/"+rule, body, "X-Token", secret, "X-Delivery", id)
		return fmt.Sprint(resp.StatusCode, " ", resp.body)
	}
	first, dropped := send("a", "d1", `{"want":true}`), send("a", "d2", `{"want":false}`)
	if !strings.HasPrefix(first, "202") || dropped != "204 " {
		t.Fatalf("%q %q", first, dropped)
	}
	if refused := send("a", "d3", `[]`); !strings.HasPrefix(refused, "422") {
		t.Errorf("%q", refused)
	}
	other := send("b", "d1", `{"of":"b"}`)
	again := func() {
		t.Helper()
		for want, got := range map[string]string{first: send("a", "d1", `{"want":true}`), dropped: send("a", "d2", `{"want":false}`), other: send("b", "d1", `{"of":"b"}`)} {
			if got != want {
				t.Errorf("got %q, and %q the first time", got, want)
			}
		}
	}
	again()
	s.reload(global, fmt.Sprintf(remembering, hub, "event changed\n max_body 1KiB\n data changed"))
	again()
	if err := caddy.Stop(); err != nil { // the whole process
		t.Fatal(err)
	}
	s.reload(global, fmt.Sprintf(remembering, hub, ""))
	c := s.open("HTTP/1.1", "/events")
	again()
	if got := send("a", "d3", `{"want":true,"n":3}`); !strings.HasPrefix(got, "202") {
		t.Errorf("a refused delivery has an idempotency record: %q", got)
	}
	c.expect("", `{"want":true,"n":3}`) // the first event

	s.reload(global, fmt.Sprintf(remembering, hub, "dedupe off"))
	// Its event has left the history. The old server may accept a last connection,
	// on which it is a duplicate.
	waitFor(t, "a delivery that is no duplicate any more", func() bool {
		send("a", "d1", `{"want":true,"again":1}`)
		select {
		case e := <-c.events:
			return string(e.Data) == `{"want":true,"again":1}`
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
}

func TestRefusalListShowsReasonsWithoutSecrets(t *testing.T) {
	hub := newHubName()
	s := watchedSite(t, "sse "+hub, strings.ReplaceAll(senders, "sse /hooks/shop {", "sse /hooks/shop {\n hub "+hub))
	body := `{"order":{"id":1}}`
	rule := `rule="/hooks/shop"`
	for _, result := range []string{"accepted", "duplicate", "bad_signature", "unmapped"} {
		if _, ok := s.scrape(hub)[`webhooks_total{result="`+result+`",`+rule+`}`]; !ok {
			t.Errorf("%s isn't there: %v", result, s.scrape(hub))
		}
	}
	s.do("POST", "/hooks/shop", body, "X-Shop-Signature", "verysecret!")
	for range 3 {
		s.do("POST", "/hooks/shop?token=verysecret", body, "X-Shop-Signature", "AAAA")
	}
	s.do("POST", "/hooks/shop", body)
	s.do("POST", "/hooks/shop", `{"personal":1}`, fromShop(`{"personal":1}`)...)
	for range 2 {
		s.do("POST", "/hooks/shop", body, append(fromShop(body), "X-Delivery", "d1")...)
	}
	for result, want := range map[string]float64{"bad_signature": 5, "unmapped": 1, "accepted": 1, "duplicate": 1, "too_large": 0} {
		s.wantMetric(hub, `webhooks_total{result="`+result+`",`+rule+`}`, want)
	}
	status, text := s.requestAdmin("GET", "/sse/refusals?hub="+hub)
	var list struct {
		Total    int
		Refusals []struct {
			Rule, Sender, Client, Method, Path, Kind, Reason, Detail, First, Last string
			Status, Count                                                         int
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != http.StatusOK || list.Total != 3 {
		t.Fatalf("%d %s %v", status, text, err)
	}
	for i, want := range []string{
		"422 unmapped the payload has no \"order.id\", which the topic needs|",
		"401 bad_signature signature header X-Shop-Signature missing|",
		"401 bad_signature the signature is wrong|none of 2 secrets fits the 1 signature in header X-Shop-Signature: another secret, or a body that was changed on the way",
	} {
		r := list.Refusals[i]
		if got := fmt.Sprintf("%d %s %s|%s", r.Status, r.Kind, r.Reason, r.Detail); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if r.Count != []int{1, 1, 4}[i] || r.Rule != "/hooks/shop" || r.Sender != "hmac" || r.Client != "127.0.0.1" || r.Method != "POST" || r.Path != "/hooks/shop" || r.First == "" || r.Last < r.First {
			t.Errorf("%+v", r)
		}
	}
	if strings.Contains(text, "verysecret") || strings.Contains(text, secret) || strings.Contains(text, "AAAA") || strings.Contains(text, fromShop(body)[1]) {
		t.Errorf("it shows a secret: %s", text)
	}
	if status, _ := s.requestAdmin("POST", "/sse/refusals"); status != http.StatusMethodNotAllowed {
		t.Errorf("got %d", status)
	}
	if _, text := s.requestAdmin("GET", "/sse/refusals?hub="+hub+"&kind=unmapped"); !strings.HasPrefix(text, `{"total":1,`) {
		t.Error(text)
	}
}

func TestSenderReceivesAppsFailure(t *testing.T) {
	a, address := startApp(t)
	hub := newHubName()
	s := startSite(t, "sse "+hub, fmt.Sprintf(forwardSyncSite, hub, address))
	c := s.open("HTTP/2.0", "/events")
	for _, protocol := range protocols {
		a.respond(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) // no response at all
		if resp := s.doOver(protocol, "POST", "/hooks/shop", `{"order":1}`, "X-Token", secret); resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: got %s", protocol, resp.Status)
		}
		if protocol == "HTTP/3.0" {
			continue // quic-go leaks goroutines when a response breaks off, with or without a rule
		}
		a.respond(func(w http.ResponseWriter, _ *http.Request) { // a response that breaks off after the status
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "12345")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		resp, err := s.send(ctx, protocol, "POST", "/hooks/shop", `{"order":1,"over":"`+protocol+`"}`, "X-Token", secret)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		cancel()
		if err == nil {
			t.Errorf("%s: the answer was whole", protocol)
		}
		c.expect("", `{"order":1,"over":"`+protocol+`"}`) // the app's status was a success
	}
}

func TestForwardedWebhookInvalidatesViewsAfterApp(t *testing.T) {
	doc := newDocument(`{"stock":5}`)
	address := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			doc.set(`{"stock":4}`)
			return // an implicit 200
		}
		doc.ServeHTTP(w, r)
	})
	s := startSite(t, "", `
	sse /hooks/stock {
		webhook {
			verify  token X-Token "`+secret+`"
			refresh /api/inventory/{json.id}
			forward
		}
	}
	sse /api/* {
		poll 1h
	}
	reverse_proxy `+address)
	for _, protocol := range protocols {
		doc.set(`{"stock":5}`)
		c := s.open(protocol, "/api/inventory/7", "X-Test", protocol)
		c.expect("", `{"stock":5}`)
		if resp := s.doOver(protocol, "POST", "/hooks/stock", `{"id":7}`, "X-Token", secret); resp.StatusCode != http.StatusOK {
			t.Errorf("got %s", resp.Status)
		}
		c.expect("", `{"stock":4}`)
	}
}

func TestConcurrentDuplicatesAreForwardedEachTimeAndPublishedOnce(t *testing.T) {
	a, address := startApp(t)
	hub := newHubName()
	s := startSite(t, "sse "+hub, fmt.Sprintf(forwardSyncSite, hub, address))
	c := s.open("HTTP/2.0", "/events")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if resp := s.doOver("HTTP/2.0", "POST", "/hooks/shop", `{"order":1}`, "X-Token", secret, "X-Delivery", "d1"); resp.StatusCode != http.StatusCreated {
				t.Errorf("got %s", resp.Status)
			}
		})
	}
	wg.Wait()
	s.do("POST", "/hooks/shop", `{"order":1,"last":true}`, "X-Token", secret)
	c.expect("", `{"order":1}`)
	c.expect("", `{"order":1,"last":true}`)
	if got := len(a.received()); got != 51 {
		t.Errorf("the app got %d", got)
	}
}
