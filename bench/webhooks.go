package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"
)

type webhookOptions struct {
	total, rest time.Duration
	rounds      int
}

func (o *webhookOptions) flags() {
	flag.DurationVar(&o.total, "webhooks-for", 15*time.Second, "webhooks: the time of each row in all rounds")
	flag.IntVar(&o.rounds, "webhook-rounds", 3, "webhooks: rounds in which the rows alternate")
	flag.DurationVar(&o.rest, "webhook-rest", 20*time.Millisecond, "webhooks: pause of the occasional sender after each webhook")
}

// webhookRow is a store with senders of webhooks, with its results.
type webhookRow struct {
	store   string
	senders int
	pauses  bool // so that no webhook waits for another

	elapsed, caddyCPU time.Duration
	accepted          int
	responses, delays []time.Duration // from the POST to its response, and to the client
}

func (b *webhookRow) name() string {
	what := "at full speed"
	if b.pauses {
		what = "occasionally"
	}
	return fmt.Sprintf("`store %s`, senders: %d, %s", b.store, b.senders, what)
}

func webhookRows() (all []*webhookRow) {
	for _, store := range []string{"memory", "file"} {
		all = append(all, &webhookRow{store: store, senders: 1, pauses: true})
		for _, senders := range []int{1, 10, 100} {
			all = append(all, &webhookRow{store: store, senders: senders})
		}
	}
	return all
}

func benchWebhooks(ctx context.Context, o *webhookOptions) error {
	where, all := machine(), webhookRows()
	for round := range o.rounds {
		for _, b := range all {
			progressf("round %d of %d: %s", round+1, o.rounds, b.name())
			if err := b.turn(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", b.name(), err)
			}
		}
	}
	fmt.Printf("Webhooks of %s, signed as GitHub's, one client; %v per row in %d rounds. %s.\n\n", kib(float64(len(payload(0)))), o.total, o.rounds, where)
	fmt.Println("| | accepted per second | POST to response, median | 99th percentile | POST to client, median | 99th percentile | Caddy, of a core |")
	fmt.Println("| --- | --: | --: | --: | --: | --: | --: |")
	for _, b := range all {
		slices.Sort(b.responses)
		slices.Sort(b.delays)
		fmt.Printf("| %s | %.0f | %s | %s | %s | %s | %s |\n", b.name(), float64(b.accepted)/b.elapsed.Seconds(),
			short(quantile(b.responses, 0.5)), short(quantile(b.responses, 0.99)), short(quantile(b.delays, 0.5)), short(quantile(b.delays, 0.99)), percent(b.caddyCPU, b.elapsed))
	}
	fmt.Println()
	return nil
}

const webhookSecret = "bench"

// turn measures a row once, with a new Caddy.
func (b *webhookRow) turn(ctx context.Context, o *webhookOptions) (err error) {
	store := b.store
	if store == "file" {
		store += " " + folderPlaceholder
	}
	unused := httptest.NewServer(http.NotFoundHandler())
	defer unused.Close()
	caddy, err := startCaddy("sse {\n store "+store+"\n history 1000000\n }", `
	sse /hooks {
		webhook {
			verify github `+webhookSecret+`
			topic repos/{json.repository.full_name}
			select `+"`{n, action}`"+`
		}
	}
	sse /events {
		topic repos/octo/shop
	}`, unused.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	sent := new(sentAt)
	reader, err := subscribe(ctx, caddy.url+"/events", sent)
	if err != nil {
		return err
	}
	before, err := caddy.usage()
	began := time.Now()
	err = errors.Join(err, b.post(ctx, o, caddy.url+"/hooks", sent))
	b.elapsed += time.Since(began)
	after, usageErr := caddy.usage()
	b.caddyCPU += after.cpu - before.cpu
	delays, readErr := reader.finish(sent.count())
	b.delays = append(b.delays, delays...)
	return errors.Join(err, usageErr, readErr)
}

// post runs the senders for the time of one round.
func (b *webhookRow) post(ctx context.Context, o *webhookOptions, url string, sent *sentAt) error {
	turn, cancel := context.WithTimeout(ctx, o.total/time.Duration(o.rounds))
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: b.senders}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for range b.senders {
		all.Go(func() {
			responses, err := postUntil(turn, client, url, sent, b.pauses, o.rest)
			mu.Lock()
			defer mu.Unlock()
			b.accepted += len(responses)
			b.responses = append(b.responses, responses...)
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	return failed
}

func postUntil(ctx context.Context, client *http.Client, url string, sent *sentAt, rests bool, rest time.Duration) (responses []time.Duration, err error) {
	for ctx.Err() == nil {
		n, began := sent.next()
		if err := postOne(client, url, n); err != nil {
			return responses, err
		}
		responses = append(responses, time.Since(began))
		if rests {
			_ = pause(ctx, rest) // the loop checks the context
		}
	}
	return responses, nil
}

func postOne(client *http.Client, url string, n int) error {
	body := payload(n)
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", fmt.Sprintf("delivery-%d", n))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", resp.Status, content)
	}
	return err
}

// payload returns the body of a typical webhook.
func payload(n int) []byte {
	commit := `{"id":"0123456789abcdef0123456789abcdef01234567","message":"Feed the fish","author":{"name":"Octo","email":"octo@example.com"},"added":[],"removed":[],"modified":["pets/fish.go"]}`
	return fmt.Appendf(nil, `{"n":%d,"action":"pushed","repository":{"id":1,"full_name":"octo/shop","private":true},"commits":[%s,%[2]s,%[2]s,%[2]s]}`, n, commit)
}

// sentAt records when each webhook was sent, by its number.
type sentAt struct {
	mu    sync.Mutex
	times []time.Time
}

func (s *sentAt) next() (n int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = time.Now()
	s.times = append(s.times, now)
	return len(s.times) - 1, now
}

func (s *sentAt) since(n int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.times[n])
}

func (s *sentAt) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

// subscriber is the client that receives the events.
type subscriber struct {
	body   io.Closer
	delays chan time.Duration
	failed error // valid after delays is closed
}

func subscribe(ctx context.Context, url string, sent *sentAt) (*subscriber, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, errors.New(resp.Status)
	}
	r := &subscriber{resp.Body, make(chan time.Duration, 1<<20), nil}
	go func() {
		defer close(r.delays)
		r.failed = readEvents(resp.Body, func(event []byte) {
			if n, ok := numberIn(event); ok {
				r.delays <- sent.since(n)
			}
		})
	}()
	return r, nil
}

// numberIn returns the number of an event's webhook.
func numberIn(event []byte) (int, bool) {
	_, rest, found := bytes.Cut(event, []byte(`"n":`))
	end := bytes.IndexByte(rest, '}')
	if !found || end < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(rest[:end]))
	return n, err == nil
}

// finish waits until the client has received count events.
func (r *subscriber) finish(count int) (delays []time.Duration, err error) {
	defer r.body.Close()
	late := time.After(20 * time.Second)
	for len(delays) < count {
		select {
		case d, ok := <-r.delays:
			if !ok {
				return delays, r.failed
			}
			delays = append(delays, d)
		case <-late:
			return delays, fmt.Errorf("the client has received %d of %d events", len(delays), count)
		}
	}
	return delays, nil
}
