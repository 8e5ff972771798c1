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
	flag.DurationVar(&o.total, "webhooks-for", 15*time.Second, "webhooks: how long each row is measured, all rounds together")
	flag.IntVar(&o.rounds, "webhook-rounds", 3, "webhooks: how many times the rows take turns")
	flag.DurationVar(&o.rest, "webhook-rest", 20*time.Millisecond, "webhooks: how long the one sender of the rows about delay rests after each")
}

// inbox is a store with some senders that post webhooks to it.
type inbox struct {
	store   string
	senders int
	rests   bool // so that nothing waits for anything else

	elapsed, caddyCPU time.Duration
	accepted          int
	answers, delays   []time.Duration // from the POST to its answer, and to the client
}

func (b *inbox) name() string {
	what := "as fast as they can"
	if b.rests {
		what = "now and then"
	}
	return fmt.Sprintf("`store %s`, senders: %d, %s", b.store, b.senders, what)
}

func inboxes() (all []*inbox) {
	for _, store := range []string{"memory", "file"} {
		all = append(all, &inbox{store: store, senders: 1, rests: true})
		for _, senders := range []int{1, 10, 100} {
			all = append(all, &inbox{store: store, senders: senders})
		}
	}
	return all
}

func benchWebhooks(ctx context.Context, o *webhookOptions) error {
	where, all := machine(), inboxes()
	for round := range o.rounds {
		for _, b := range all {
			tell("round %d of %d: %s", round+1, o.rounds, b.name())
			if err := b.turn(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", b.name(), err)
			}
		}
	}
	fmt.Printf("Webhooks of %s, signed as GitHub's, one client; %v per row in %d rounds. %s.\n\n", kib(float64(len(payload(0)))), o.total, o.rounds, where)
	fmt.Println("| | accepted per second | POST to answer, median | 99th percentile | POST to client, median | 99th percentile | Caddy, of a core |")
	fmt.Println("| --- | --: | --: | --: | --: | --: | --: |")
	for _, b := range all {
		slices.Sort(b.answers)
		slices.Sort(b.delays)
		fmt.Printf("| %s | %.0f | %s | %s | %s | %s | %s |\n", b.name(), float64(b.accepted)/b.elapsed.Seconds(),
			short(quantile(b.answers, 0.5)), short(quantile(b.answers, 0.99)), short(quantile(b.delays, 0.5)), short(quantile(b.delays, 0.99)), percent(b.caddyCPU, b.elapsed))
	}
	fmt.Println()
	return nil
}

const webhookSecret = "bench"

// turn measures an inbox once, from scratch.
func (b *inbox) turn(ctx context.Context, o *webhookOptions) (err error) {
	store := b.store
	if store == "file" {
		store += " " + folder
	}
	nobody := httptest.NewServer(http.NotFoundHandler())
	defer nobody.Close()
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
	}`, nobody.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	sent := new(sentAt)
	reader, err := follow(ctx, caddy.url+"/events", sent)
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

// post has the senders at work for the time of a turn.
func (b *inbox) post(ctx context.Context, o *webhookOptions, url string, sent *sentAt) error {
	turn, cancel := context.WithTimeout(ctx, o.total/time.Duration(o.rounds))
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: b.senders}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for range b.senders {
		all.Go(func() {
			answers, err := postUntil(turn, client, url, sent, b.rests, o.rest)
			mu.Lock()
			defer mu.Unlock()
			b.accepted += len(answers)
			b.answers = append(b.answers, answers...)
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	return failed
}

func postUntil(ctx context.Context, client *http.Client, url string, sent *sentAt, rests bool, rest time.Duration) (answers []time.Duration, err error) {
	for ctx.Err() == nil {
		n, began := sent.next()
		if err := postOne(client, url, n); err != nil {
			return answers, err
		}
		answers = append(answers, time.Since(began))
		if rests {
			_ = pause(ctx, rest) // the loop sees that it is over
		}
	}
	return answers, nil
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
	answer, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("answered with %s: %s", resp.Status, answer)
	}
	return err
}

// payload is about what a sender of webhooks sends.
func payload(n int) []byte {
	commit := `{"id":"0123456789abcdef0123456789abcdef01234567","message":"Feed the fish","author":{"name":"Octo","email":"octo@example.com"},"added":[],"removed":[],"modified":["pets/fish.go"]}`
	return fmt.Appendf(nil, `{"n":%d,"action":"pushed","repository":{"id":1,"full_name":"octo/shop","private":true},"commits":[%s,%[2]s,%[2]s,%[2]s]}`, n, commit)
}

// sentAt is when each webhook was sent, by its number.
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

// reader is the client that watches.
type reader struct {
	body   io.Closer
	delays chan time.Duration
	failed error // once delays is closed
}

func follow(ctx context.Context, url string, sent *sentAt) (*reader, error) {
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
	r := &reader{resp.Body, make(chan time.Duration, 1<<20), nil}
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

// numberIn is the number of the webhook that an event is of.
func numberIn(event []byte) (int, bool) {
	_, rest, found := bytes.Cut(event, []byte(`"n":`))
	end := bytes.IndexByte(rest, '}')
	if !found || end < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(rest[:end]))
	return n, err == nil
}

// finish waits until the client has got so many events.
func (r *reader) finish(count int) (delays []time.Duration, err error) {
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
			return delays, fmt.Errorf("the client has %d of %d events", len(delays), count)
		}
	}
	return delays, nil
}
