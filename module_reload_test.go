package caddysse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/caddy-sse/caddy-sse/event"
)

// reconnectingClient is a client that reconnects, as an EventSource does, until
// it is stopped.
type reconnectingClient struct {
	site           *site
	protocol, path string
	took           func(event.Event) (more bool)

	opened atomic.Int64 // streams
	under  atomic.Value // the header X-Config of the newest
}

// run returns the position that the client has reached.
func (f *reconnectingClient) run(position string) string {
	for failures := 0; ; {
		header := []string{"Last-Event-ID", position}
		if position == "" {
			header = nil
		}
		c, err := f.site.tryOpen(f.protocol, f.path, header...)
		if network := new(url.Error); errors.As(err, &network) && failures < 100 {
			failures++ // an EventSource retries, too
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			f.site.t.Errorf("%s over %s: %v", f.path, f.protocol, err) // and stops
			return position
		}
		f.under.Store(c.resp.Header.Get("X-Config"))
		f.opened.Add(1)
		for e := range c.events {
			if e.ID != "" {
				position = e.ID
			}
			if !f.took(e) {
				c.close()
				return position
			}
		}
		c.close()
	}
}

// reconnectingClients starts clients over all protocols, at most fifty per
// connection.
func reconnectingClients(s *site, count int, path string, make func(i int) func(event.Event) bool) []*reconnectingClient {
	all := []*reconnectingClient{}
	from := s
	for i := range count {
		if i%50 == 0 {
			from = s.withClients()
		}
		all = append(all, &reconnectingClient{site: from, protocol: protocols[i%3], path: path, took: make(i)})
	}
	return all
}

// numbered checks that each event's number is one more than the one before.
type numbered struct{ next int }

func (n *numbered) take(t *testing.T, e event.Event) bool {
	if e.Name != "" {
		t.Errorf("after %d: event %s with %s", n.next-1, e.Name, e.Data)
		return false
	}
	if string(e.Data) == lastEvent {
		return false
	}
	number, err := strconv.Atoi(string(e.Data))
	if err != nil || number != n.next {
		t.Errorf("event %s came instead of %d", e.Data, n.next)
		return false
	}
	n.next++
	return true
}

// Caddy reloads again and again while a publisher and many clients continue. No
// event is lost, repeated or out of order, and the old configurations are freed.
func TestReloadsUnderLoadLoseNoEventAndLeakNothing(t *testing.T) {
	reloads, clients, pause := 10, 60, 10*time.Millisecond
	if fullSize {
		reloads, clients, pause = 100, 1000, 50*time.Millisecond
	}
	const global, kept = "sse {\n drain 500ms\n history 1000\n }", 1000
	rules := func(n int) string {
		return fmt.Sprintf("header X-Config %d\n", n) + fmt.Sprintf(pubsub, "retry 100ms")
	}
	m := startMortal(t, global, rules(0))
	for range kept { // so that the log doesn't grow any more
		m.publish("news", "before")
	}
	position := m.publish("news", "start")

	counts := make([]numbered, clients)
	all := reconnectingClients(m.site, clients, "/events/news", func(i int) func(event.Event) bool {
		return func(e event.Event) bool { return counts[i].take(t, e) }
	})
	stop := make(chan struct{})
	published := 0
	var publishing, reading sync.WaitGroup
	publishing.Go(func() { published = m.publishEvery(pause, stop) })
	for _, f := range all {
		reading.Go(func() { f.run(position) })
	}
	var early, late processStatus
	var earlyRSS, lateRSS int64
	for n := 1; n <= reloads && !t.Failed(); n++ {
		m.reload(global, rules(n))
		waitForConfiguration(t, all, n)
		if n == max(1, reloads/10) {
			early, earlyRSS = m.stableStatus(), m.rss()
		}
	}
	late, lateRSS = m.stableStatus(), m.rss()
	close(stop)
	publishing.Wait()
	reading.Wait()
	for i := range counts {
		if counts[i].next != published {
			t.Errorf("client %d over %s has %d events of %d", i, all[i].protocol, counts[i].next, published)
		}
	}
	t.Logf("%d reloads, %d streams, %d events; after a tenth of them %d goroutines, %.1f MiB of heap, %.1f MiB of RSS; at the end %d, %.1f MiB, %.1f MiB",
		reloads, clients, published, early.Goroutines, mib(early.Heap), mib(earlyRSS), late.Goroutines, mib(late.Heap), mib(lateRSS))
	if late.Goroutines > early.Goroutines+early.Goroutines/10+20 {
		t.Errorf("there were %d goroutines, and are %d", early.Goroutines, late.Goroutines)
	}
	if late.Heap > early.Heap+early.Heap/5+4<<20 {
		t.Errorf("there were %.1f MiB in use, and are %.1f", mib(early.Heap), mib(late.Heap))
	}
}

func mib[N int64 | uint64](bytes N) float64 { return float64(bytes) / (1 << 20) }

// waitForConfiguration waits until the newest stream of each client belongs to
// the n-th configuration.
func waitForConfiguration(t *testing.T, all []*reconnectingClient, n int) {
	t.Helper()
	want := strconv.Itoa(n)
	deadline := time.Now().Add(20 * time.Second)
	for _, f := range all {
		for f.under.Load() != want {
			if time.Now().After(deadline) || t.Failed() {
				t.Fatalf("a client over %s is under configuration %v after its %d. stream, and not under %d", f.protocol, f.under.Load(), f.opened.Load(), n)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// stableStatus returns the process's status when earlier requests have ended:
// the minimum within a second.
func (m *childCaddy) stableStatus() processStatus {
	least := m.load("")
	for range 10 {
		time.Sleep(100 * time.Millisecond)
		s := m.load("")
		least.Goroutines, least.Heap = min(least.Goroutines, s.Goroutines), min(least.Heap, s.Heap)
	}
	return least
}

// publishEvery publishes numbers until stop closes, and then the last event.
func (s *site) publishEvery(pause time.Duration, stop <-chan struct{}) (published int) {
	for {
		select {
		case <-stop:
			s.publishUntilAcknowledged("news", lastEvent)
			return published
		case <-time.After(pause):
			s.publishUntilAcknowledged("news", strconv.Itoa(published))
			published++
		}
	}
}

// documentCopy is a client's copy of a document, built from the events.
type documentCopy struct {
	mu  sync.Mutex
	doc []byte
}

func (c *documentCopy) take(t *testing.T, e event.Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Name {
	case "":
		c.doc = e.Data
	case "patch":
		patch, err := jsonpatch.DecodePatch(e.Data)
		if err == nil {
			c.doc, err = patch.Apply(c.doc)
		}
		if err != nil {
			t.Errorf("patch %s: %v", e.Data, err)
		}
	case "reset": // the document follows
	default:
		t.Errorf("event %s with %s", e.Name, e.Data)
	}
	return !t.Failed()
}

func (c *documentCopy) is(doc string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var got, want any
	return json.Unmarshal(c.doc, &got) == nil && json.Unmarshal([]byte(doc), &want) == nil && reflect.DeepEqual(got, want)
}

// stocks returns the n-th version of a document of which parts change.
func stocks(n int) string {
	return fmt.Sprintf(`{"changes":%d,"note":%q,"items":[%d,%d]}`, n, strings.Repeat("long ", 40), n/2, n/3)
}

// randomReloads is a site that reloads again and again while clients over all
// protocols subscribe to topics and to a document in two ways.
type randomReloads struct {
	*site
	t       *testing.T
	backend string
	number  int // of the configuration in force
	history int
	drain   time.Duration
	retry   time.Duration
	all     []*reconnectingClient
}

func (r *randomReloads) global() string {
	return fmt.Sprintf("sse {\n drain %v\n history %d\n }", r.drain, r.history)
}

func (r *randomReloads) rules() string {
	return fmt.Sprintf("header X-Config %d\n", r.number) + fmt.Sprintf(pubsub, fmt.Sprintf("retry %v", r.retry)) + fmt.Sprintf(`
	sse /full/* {
		poll 100ms
		retry %[1]v
	}
	sse /patch/* {
		poll 100ms {
			send patch
		}
		retry %[1]v
	}
	reverse_proxy %[2]s`, r.retry, r.backend)
}

// reloadRandomly replaces the configuration, or fails to.
func (r *randomReloads) reloadRandomly() {
	switch rand.IntN(5) {
	case 0:
		r.rejected("a poll each millisecond", func(rules string) error { return r.load(r.global(), rules+"\nsse /x {\n poll 1ms\n }") })
		return
	case 1: // rejected only after its apps were started: the address is another machine's
		r.rejected("a listener that can't be", func(rules string) error {
			return loadCaddyfile(r.caddyfile("sse {\n history 1\n drain 1ms\n }", rules) + fmt.Sprintf("http://localhost:%d {\n bind 192.0.2.1\n}", freePort(r.t)))
		})
		return
	case 2: // an option of the hub
		r.history, r.drain = 100_000+rand.IntN(1000), time.Duration(1+rand.IntN(300))*time.Millisecond
	case 3: // a rule
		r.retry = time.Duration(20+rand.IntN(50)) * time.Millisecond
	}
	r.number++
	r.reload(r.global(), r.rules())
}

// rejected loads an invalid configuration while no stream moves, and checks that
// none ends.
func (r *randomReloads) rejected(what string, load func(rules string) error) {
	waitForConfiguration(r.t, r.all, r.number)
	before := r.streams()
	if err := load(r.rules()); err == nil {
		r.t.Errorf("%s was accepted", what)
	}
	time.Sleep(50 * time.Millisecond) // long enough to notice what must not happen
	if after := r.streams(); after != before {
		r.t.Errorf("%s has ended streams: there were %d, and then %d", what, before, after)
	}
}

// streams returns how many streams the clients have opened.
func (r *randomReloads) streams() (n int64) {
	for _, f := range r.all {
		n += f.opened.Load()
	}
	return n
}

func TestReloadsAtRandomTimesLoseNoEvent(t *testing.T) {
	reloads, clients := 12, 9
	if fullSize {
		reloads, clients = 100, 60
	}
	doc := newDocument(stocks(0))
	r := &randomReloads{t: t, backend: startBackend(t, doc.ServeHTTP), history: 100_000, drain: 100 * time.Millisecond, retry: 20 * time.Millisecond}
	r.site = startSite(t, r.global(), r.rules())
	position := r.publish("news", "start")

	counts, copies := make([]numbered, clients), make([]documentCopy, 2*clients)
	topics := reconnectingClients(r.site, clients, "/events/news", func(i int) func(event.Event) bool {
		return func(e event.Event) bool { return counts[i].take(t, e) }
	})
	var done atomic.Bool
	var documents []*reconnectingClient
	for way, path := range []string{"/full/doc", "/patch/doc"} {
		documents = append(documents, reconnectingClients(r.site, clients, path, func(i int) func(event.Event) bool {
			return func(e event.Event) bool { return copies[way*clients+i].take(t, e) && !done.Load() }
		})...)
	}
	r.all = append(topics, documents...)
	stop := make(chan struct{})
	published, changes := 0, 0
	var publishing, reading sync.WaitGroup
	publishing.Go(func() { published = r.publishEvery(2*time.Millisecond, stop) })
	publishing.Go(func() { changes = doc.changeUntil(stop) })
	for _, f := range topics {
		reading.Go(func() { f.run(position) })
	}
	for _, f := range documents {
		reading.Go(func() { f.run("") })
	}
	for range reloads {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) // at a random time
		r.reloadRandomly()
	}
	close(stop)
	publishing.Wait()
	for i := range copies {
		waitFor(t, "copy of the last document", func() bool { return copies[i].is(stocks(changes)) || t.Failed() })
	}
	done.Store(true)
	doc.set(`"over"`)
	reading.Wait()
	for i := range counts {
		if counts[i].next != published {
			t.Errorf("client %d over %s has %d events of %d", i, topics[i].protocol, counts[i].next, published)
		}
	}
	t.Logf("%d reloads, %d of them accepted, %d clients, %d streams, %d events, %d changes of the document", reloads, r.number, len(r.all), r.streams(), published, changes)
}

// changeUntil changes the document until stop closes.
func (d *document) changeUntil(stop <-chan struct{}) (changes int) {
	for {
		select {
		case <-stop:
			return changes
		case <-time.After(30 * time.Millisecond):
			changes++
			d.set(stocks(changes))
		}
	}
}

// The drain is an hour. A viewer that sees the new backend's document soon was
// moved because the old backend failed, or shares a topic with viewers that
// opened their streams on the new one.
func TestReloadMovesAllViewersToNewBackendAddress(t *testing.T) {
	for _, dead := range []bool{true, false} {
		for _, send := range []string{"full", "patch"} {
			for _, protocol := range protocols {
				t.Run(fmt.Sprintf("dead=%t/%s/%s", dead, send, protocol), func(t *testing.T) {
					var gone atomic.Bool
					old := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
						if gone.Load() {
							panic(http.ErrAbortHandler)
						}
						_, _ = fmt.Fprint(w, `"old"`)
					})
					now := startBackend(t, newDocument(`"new"`).ServeHTTP)
					drain := "1h"
					if !dead {
						drain = "500ms"
					}
					global := "sse {\n drain " + drain + "\n }"
					rules := "sse /api/* {\n poll 100ms {\n send " + send + "\n }\n retry 20ms\n }\n reverse_proxy "
					s := startSite(t, global, rules+old)
					copies := make([]documentCopy, 5)
					var reading sync.WaitGroup
					for i, f := range reconnectingClients(s, len(copies), "/api/doc", func(i int) func(event.Event) bool {
						return func(e event.Event) bool { return copies[i].take(t, e) && string(e.Data) != `"new"` }
					}) {
						f.protocol = protocol
						reading.Go(func() { f.run("") })
						waitFor(t, "old document", func() bool { return copies[i].is(`"old"`) })
					}
					s.reload(global, rules+now)
					gone.Store(dead)
					reading.Wait()
				})
			}
		}
	}
}

func TestReloadAppliesChangedHubOptions(t *testing.T) {
	s := startSite(t, "sse {\n drain 1h\n history 3\n }", fmt.Sprintf(pubsub, ""))
	c := s.open("HTTP/1.1", "/events/news")
	s.reload("sse {\n drain 10ms\n history 5\n }", fmt.Sprintf(pubsub, ""))
	c.ended() // within the new configuration's drain
	first := s.publish("news", "0")
	for i := 1; i <= 5; i++ {
		s.publish("news", strconv.Itoa(i))
	}
	s.open("HTTP/1.1", "/events/news", "Last-Event-ID", first).expect("", "1")
}

func TestRejectedConfigurationDoesNotShortenHistory(t *testing.T) {
	s := startPubsub(t, "")
	first := s.publish("news", "0")
	s.publish("news", "1")
	s.publish("news", "2")
	for range 10 { // Caddy starts a configuration's apps in random order
		rejected := s.caddyfile("sse {\n history 1\n }", fmt.Sprintf(pubsub, "")) + fmt.Sprintf("http://localhost:%d {\n bind 192.0.2.1\n}", freePort(t))
		if err := loadCaddyfile(rejected); err == nil {
			t.Fatal("a listener on another machine's address was accepted")
		}
	}
	s.open("HTTP/1.1", "/events/news", "Last-Event-ID", first).expect("", "1")
	s.reload("sse {\n history 1\n }", fmt.Sprintf(pubsub, ""))
	waitFor(t, "reset", func() bool {
		c := s.open("HTTP/1.1", "/events/news", "Last-Event-ID", first)
		defer c.close()
		return c.next().Name == "reset"
	})
}

// The old configuration serves a connection that it accepts before a reload,
// even if the handshake ends after it.
func TestReloadMovesStreamOnLateHTTP2Connection(t *testing.T) {
	rules := func(n int) string { return fmt.Sprintf("header X-Config %d\n", n) + fmt.Sprintf(pubsub, "retry 20ms") }
	const global = "sse {\n drain 10ms\n }"
	s := startSite(t, global, rules(0))
	s.publish("news", "start")
	early, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.https))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { early.Close() })
	time.Sleep(100 * time.Millisecond) // until it is accepted, which nothing reports
	s.reload(global, rules(1))
	transport := s.client("HTTP/2.0").Transport.(*http.Transport)
	dial, used := transport.DialContext, false
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !used {
			used = true
			return early, nil
		}
		return dial(ctx, network, addr)
	}
	for range 20 {
		c := s.open("HTTP/2.0", "/events/news")
		if c.resp.Header.Get("X-Config") == "1" {
			return
		}
		c.ended()
	}
	t.Error("it opens one stream after the other under the old configuration")
}
