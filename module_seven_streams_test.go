package caddysse_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// sevenStreams are streams that pages know from servers which were written for
// them. Here backends without streams give them.
var sevenStreams = []struct {
	name   string
	path   string
	header []string
	start  func(*testing.T) (*site, exactStream)
}{
	{"recommendations, from a list in chunks", "/v1/recommendations", nil, startRelayedRecommendations},
	{"recommendations, from a document that grows", "/api/recommendations", nil, startPolledRecommendations},
	{"the status of an order", "/api/orders/17", nil, startOrderStatus},
	{"inventory", "/api/inventory", nil, startInventory},
	{"prices", "/api/prices/ACME", nil, startPrices},
	{"progress", "/api/videos/v7", nil, startProgress},
	{"notifications of a user", "/notifications", []string{"Authorization", basicAuth("ann")}, startNotifications},
	{"a chat", "/chat", []string{"Authorization", basicAuth("ann")}, startChat},
}

// exactStream is what viewers of a stream get.
type exactStream struct {
	first string // when the first viewers come
	steps []exactStep
	ends  bool // with the last step
}

// exactStep is a change, and the events that follow it.
type exactStep struct {
	do   func()
	want string // what present viewers get
	late string // what a viewer gets who comes after it; none: nobody comes
}

const none = "nobody comes"

// Ids and retry aside, viewers get exactly these bytes: those who are there from the
// beginning, those who come late, and those whose connection is cut.
func TestSevenStreamsAreExactToTheByte(t *testing.T) {
	for _, one := range sevenStreams {
		for _, protocol := range protocols {
			t.Run(one.name+" over "+protocol, func(t *testing.T) {
				s, stream := one.start(t)
				check := &exactCheck{site: s, protocol: protocol, path: one.path, header: one.header}
				check.run(stream)
			})
		}
	}
}

type exactCheck struct {
	*site
	protocol, path string
	header         []string
}

func (c *exactCheck) run(stream exactStream) {
	c.t.Helper()
	stays, isCut := c.openRaw(""), c.openRaw("")
	present := []*rawClient{stays, isCut}
	position, missed := "", ""
	for _, viewer := range present {
		viewer.expect(stream.first)
	}
	for i, step := range stream.steps {
		if i == 1 {
			position = isCut.position
			isCut.close()
			present = append(present[:1], present[2:]...)
		}
		step.do()
		for _, viewer := range present {
			viewer.expect(step.want)
		}
		if i > 0 {
			missed += step.want
		}
		if step.late != none {
			late := c.openRaw("")
			late.expect(step.late)
			present = append(present, late)
		}
	}
	back := c.openRaw(position)
	back.expect(missed)
	if !stream.ends {
		return
	}
	for _, viewer := range append(present, back) {
		viewer.ended()
		if resp := c.doOver(c.protocol, "GET", c.path, "", append([]string{"Accept", "text/event-stream", "Last-Event-ID", viewer.position}, c.header...)...); resp.StatusCode != http.StatusNoContent {
			c.t.Errorf("a client that has all comes back and gets %s", resp.Status)
		}
	}
}

// rawClient reads the bytes of a stream.
type rawClient struct {
	t        testing.TB
	blocks   chan block
	position string // the last id that expect has seen
	close    func()
}

// block is the text up to a blank line, without the fields id and retry.
type block struct{ text, id string }

func (c *exactCheck) openRaw(position string) *rawClient {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	header := append([]string{"Accept", "text/event-stream"}, c.header...)
	if position != "" {
		header = append(header, "Last-Event-ID", position)
	}
	resp, err := c.send(ctx, c.protocol, "GET", c.path, "", header...)
	if err != nil {
		cancel()
		c.t.Fatal(err)
	}
	raw := &rawClient{t: c.t, blocks: make(chan block, 100), close: func() {
		cancel()
		resp.Body.Close()
	}}
	c.t.Cleanup(raw.close)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		c.t.Fatalf("%s got %s", c.path, resp.Status)
	}
	go raw.read(ctx, resp.Body)
	return raw
}

// took matches a time that the module has measured.
var took = regexp.MustCompile(`"processingTime":\d+`)

func (c *rawClient) read(ctx context.Context, body io.Reader) {
	defer close(c.blocks)
	var next block
	for lines := bufio.NewReader(body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			next.id = strings.TrimSuffix(id, "\n")
			continue
		}
		if strings.HasPrefix(line, "retry: ") {
			continue
		}
		if next.text != "" || line != "\n" { // a position alone has no text
			next.text += took.ReplaceAllString(line, `"processingTime":850`)
		}
		if line != "\n" {
			continue
		}
		select {
		case c.blocks <- next:
			next = block{}
		case <-ctx.Done():
			return
		}
	}
}

// expect waits until the stream has sent the wanted bytes, and nothing else.
func (c *rawClient) expect(want string) {
	c.t.Helper()
	got := ""
	for len(got) < len(want) {
		select {
		case b, ok := <-c.blocks:
			if !ok {
				c.t.Fatalf("the stream ended after %q, want %q", got, want)
			}
			got += b.text
			if b.id != "" {
				c.position = b.id
			}
		case <-time.After(20 * time.Second):
			c.t.Fatalf("within 20 s got %q, want %q", got, want)
		}
	}
	if got != want {
		c.t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

// ended waits for the stream's end, before which nothing may come.
func (c *rawClient) ended() {
	c.t.Helper()
	select {
	case b, ok := <-c.blocks:
		if ok {
			c.t.Fatalf("got %q, want the stream's end", b.text)
		}
	case <-time.After(20 * time.Second):
		c.t.Fatal("the stream has not ended within 20 s")
	}
}

// sent returns an event's bytes without id.
func sent(name, data string) string {
	if name != "" {
		name = "event: " + name + "\n"
	}
	return name + "data: " + data + "\n\n"
}

const (
	miso   = `{"petId":2,"name":"Miso","score":0.91,"reason":"you like cats"}`
	pepper = `{"petId":3,"name":"Pepper","score":0.8,"reason":"others bought it"}`

	allRecommended = `{"total":2,"processingTime":850}`
)

func startRelayedRecommendations(t *testing.T) (*site, exactStream) {
	chunks := make(chan string)
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		chunk := "[\n"
		for ok := true; ok; {
			_, _ = io.WriteString(w, chunk)
			_ = http.NewResponseController(w).Flush()
			select {
			case chunk, ok = <-chunks:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "\n]")
	})
	s := startSite(t, "", `sse /v1/recommendations {
		relay {
			share
			event recommendation
			complete `+"`{total: .count, processingTime: .elapsed}`"+`
		}
	}
	reverse_proxy `+backend)
	first, second, end := sent("recommendation", miso), sent("recommendation", pepper), sent("complete", allRecommended)
	return s, exactStream{ends: true, steps: []exactStep{
		{func() { chunks <- miso }, first, first},
		{func() { chunks <- ",\n" + pepper }, second, first + second},
		{func() { close(chunks) }, end, none},
	}}
}

// put changes a document through the site, so that it is polled at once.
func put(s *site, path, document string) func() {
	return func() { s.do("PUT", path, document) }
}

func startPolledRecommendations(t *testing.T) (*site, exactStream) {
	list := func(items string, done bool) string {
		return fmt.Sprintf(`{"items": [%s], "done": %v, "elapsed": 850}`, items, done)
	}
	s := polled(t, "1h {\n send jq `.new.items[(.old.items // [] | length):][] | {event: \"recommendation\", data: {petId, name, score, reason}}`\n"+
		"until `select(.done) | {total: (.items | length), processingTime: .elapsed}`\n}", newDocument(list("", false)).ServeHTTP)
	first, second, end := sent("recommendation", miso), sent("recommendation", pepper), sent("complete", allRecommended)
	const path = "/api/recommendations"
	return s, exactStream{ends: true, steps: []exactStep{
		{put(s, path, list(miso, false)), first, first},
		{put(s, path, list(miso+","+pepper, false)), second, first + second},
		{put(s, path, list(miso+","+pepper, true)), end, first + second + end},
	}}
}

func startOrderStatus(t *testing.T) (*site, exactStream) {
	order := func(status string, more string) string {
		return fmt.Sprintf(`{"id": 17, "total": "32.50", "status": %q, "timestamp": "2026-11-27T10:00:00Z"%s}`, status, more)
	}
	step := func(status string) string {
		return sent("", fmt.Sprintf(`{"status":%q,"timestamp":"2026-11-27T10:00:00Z"}`, status))
	}
	s := polled(t, "1h {\n send jq `.new | select(.status != \"shipped\") | {data: {status, timestamp}}`\n"+
		"until `select(.status == \"shipped\") | {status, trackingNumber}`\n}", newDocument(order("payment_processing", "")).ServeHTTP)
	end := sent("complete", `{"status":"shipped","trackingNumber":"DHL-17"}`)
	const path = "/api/orders/17"
	return s, exactStream{first: step("payment_processing"), ends: true, steps: []exactStep{
		{put(s, path, order("payment_confirmed", "")), step("payment_confirmed"), step("payment_confirmed")},
		{put(s, path, order("preparing_shipment", "")), step("preparing_shipment"), step("preparing_shipment")},
		{put(s, path, order("shipped", `, "trackingNumber": "DHL-17"`)), end, end},
	}}
}

func startInventory(t *testing.T) (*site, exactStream) {
	pets := func(stock int, price string) string {
		return fmt.Sprintf(`{"pets": [{"id": 1, "stock": %d, "price": %s, "name": "Biscuit"}, {"id": 2, "stock": 7, "price": 85}]}`, stock, price)
	}
	s := polled(t, "1h {\n select .pets\n send jq `.old as $old | .new[] | . as $new | $old[]? | select(.id == $new.id)"+
		` | (select(.stock != $new.stock) | {event: "stock-change", data: {petId: .id, oldStock: .stock, newStock: $new.stock}}),`+
		" (select(.price != $new.price) | {event: \"price-change\", data: {petId: .id, oldPrice: .price, newPrice: $new.price}})`\n}", newDocument(pets(5, "120")).ServeHTTP)
	const path = "/api/inventory"
	return s, exactStream{steps: []exactStep{
		{put(s, path, pets(4, "120")), sent("stock-change", `{"petId":1,"oldStock":5,"newStock":4}`), ""},
		{put(s, path, pets(4, "99.90")), sent("price-change", `{"petId":1,"oldPrice":120,"newPrice":99.90}`), ""},
		{put(s, path, pets(3, "89.90")), sent("stock-change", `{"petId":1,"oldStock":4,"newStock":3}`) + sent("price-change", `{"petId":1,"oldPrice":99.90,"newPrice":89.90}`), ""},
	}}
}

func startPrices(t *testing.T) (*site, exactStream) {
	price := func(n int) string { return fmt.Sprintf(`{"price": %d.50, "symbol": "ACME", "volume": 1000}`, n) }
	want := func(n int) string { return sent("price-update", fmt.Sprintf(`{"symbol":"ACME","price":%d.50}`, n)) }
	s := polled(t, "1h {\n send jq `.new | {event: \"price-update\", data: {symbol, price}}`\n}", newDocument(price(100)).ServeHTTP)
	stream := exactStream{first: want(100)}
	for n := 101; n < 104; n++ {
		stream.steps = append(stream.steps, exactStep{put(s, "/api/prices/ACME", price(n)), want(n), want(n)})
	}
	return s, stream
}

func startProgress(t *testing.T) (*site, exactStream) {
	video := func(n int) string { return fmt.Sprintf(`{"videoId": "v7", "codec": "av1", "progress": %d}`, n) }
	want := func(n int) string { return sent("progress", fmt.Sprintf(`{"videoId":"v7","progress":%d}`, n)) }
	s := polled(t, "1h {\n send jq `.new | {event: \"progress\", data: {videoId, progress}}`\n until `.progress == 100`\n}", newDocument(video(0)).ServeHTTP)
	end := want(100) + sent("complete", "{}")
	const path = "/api/videos/v7"
	return s, exactStream{first: want(0), ends: true, steps: []exactStep{
		{put(s, path, video(30)), want(30), want(30)},
		{put(s, path, video(75)), want(75), want(75)},
		{put(s, path, video(100)), end, end},
	}}
}

// annAndZoe are users with the password x.
const annAndZoe = `basic_auth {
	ann $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u
	zoe $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u
}`

func startNotifications(t *testing.T) (*site, exactStream) {
	s := startSite(t, "", `sse /api/notify {
		webhook {
			verify token X-Notify-Token s3cret
			topic  users/{json.userId}
			event  notification
			select `+"`{type, message}`"+`
		}
	}
	handle /notifications {
		`+annAndZoe+`
		sse {
			topic users/{http.auth.user.id}
		}
	}`)
	notify := func(user, kind, message string) {
		t.Helper()
		body := fmt.Sprintf(`{"userId":%q,"type":%q,"message":%q}`, user, kind, message)
		if resp := s.do("POST", "/api/notify", body, "X-Notify-Token", "s3cret"); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status, resp.body)
		}
	}
	var stream exactStream
	for _, kind := range []string{"info", "error", "open", "a type"} {
		message := "about " + kind
		stream.steps = append(stream.steps, exactStep{
			func() { notify("zoe", kind, "not for ann"); notify("ann", kind, message) },
			sent("notification", fmt.Sprintf(`{"type":%q,"message":%q}`, kind, message)), "",
		})
	}
	return s, stream
}

func startChat(t *testing.T) (*site, exactStream) {
	s := startSite(t, "", `handle /chat {
		`+annAndZoe+`
		@say method POST
		sse @say {
			webhook {
				verify none
				topic chat
				data "{http.auth.user.id}: {json.text}"
			}
		}
		sse {
			topic  chat
			replay last 50
		}
	}`)
	var said []string // the events
	say := func(count int) string {
		before := len(said)
		for n := range count {
			said = append(said, sent("", fmt.Sprint("zoe: message ", before+n)))
		}
		return strings.Join(said[before:], "")
	}
	post := func(from, to int) func() {
		return func() {
			for n := from; n < to; n++ {
				body := fmt.Sprintf(`{"text":"message %d"}`, n)
				if resp := s.do("POST", "/chat", body, "Authorization", basicAuth("zoe")); resp.StatusCode != http.StatusAccepted {
					t.Fatal(resp.Status, resp.body)
				}
			}
		}
	}
	last := func() string { return strings.Join(said[max(0, len(said)-50):], "") }
	var stream exactStream
	for _, count := range []int{2, 60, 1} {
		from := len(said)
		want := say(count)
		stream.steps = append(stream.steps, exactStep{post(from, from+count), want, last()})
	}
	return s, stream
}

// A reload moves the viewers of a program's events. They get each event once, and no
// reset, whether the document changes meanwhile or not.
func TestReloadBringsViewersOfAProgramNoReset(t *testing.T) {
	doc := newDocument("[1]")
	directives := "sse /api/* {\n poll 1h {\n send jq `.new[(.old // [] | length):][] | {event: \"item\", data: .}`\n}\n}\n reverse_proxy " + startBackend(t, doc.ServeHTTP)
	s := startSite(t, "sse {\n drain 50ms\n }", directives)
	for i, protocol := range protocols {
		doc.set("[1]")
		path := "/api/" + protocol
		viewer := s.open(protocol, path)
		position := viewer.expect("item", "1").ID
		for n := 2; n <= 4; n++ {
			s.reload("sse {\n drain 50ms\n }", fmt.Sprintf("header X-Config %d-%d\n%s", i, n, directives))
			if n == 3 {
				doc.set("[1,2,3]") // seen by the first poll of the new configuration
			}
			viewer.ended()
			viewer = s.open(protocol, path, "Last-Event-ID", position)
			if n != 3 {
				s.do("PUT", path, "["+strings.Join([]string{"1", "2", "3", "4"}[:n], ",")+"]")
			}
			position = viewer.expect("item", fmt.Sprint(n)).ID
		}
		viewer.close()
	}
}
