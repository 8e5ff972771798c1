package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

type hostileOptions struct {
	span time.Duration
	only string
}

func (o *hostileOptions) flags() {
	flag.DurationVar(&o.span, "hostile-for", 10*time.Second, "hostile: time of each attack without a time of its own")
	flag.StringVar(&o.only, "hostile-only", "", "hostile: measure only attacks with this text in their names")
}

const hostileCaddyfile = `{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s
	http_port %[2]d
	https_port %[3]d
	log {
		output discard
	}
	sse {
		history 16MiB
	}
}
(site) {
	bind 127.0.0.1
	sse /publish/* {
		webhook {
			verify none
			topic {path.1}
		}
	}
	sse /events/* {
		topic {path.1}
		allow *
	}
	sse /choose {
		topic {query.t}
		allow **
	}
}
http://localhost:%[2]d {
	import site
}
https://localhost:%[3]d {
	tls %[1]s/cert.pem %[1]s/key.pem
	import site
}
`

// benchHostile measures the cost of attacks and their effect on other clients. Each
// attack has a Caddy of its own.
func benchHostile(ctx context.Context, o *hostileOptions) error {
	where := machine()
	fmt.Printf("%s.\n\n", where)
	fmt.Println("| attack | attempts | outcomes | Caddy, of a core | resident memory, maximum | kernel's TCP buffers, maximum | afterwards: heap, goroutines | others' events: median | 99th percentile |")
	fmt.Println("| --- | --: | --- | --: | --: | --: | --: | --: | --: |")
	for _, a := range attacks {
		if !strings.Contains(a.name, o.only) {
			continue
		}
		progressf("%s", a.name)
		if err := a.measure(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	fmt.Println()
	return nil
}

// attack is one kind of attack on a server.
type attack struct {
	name string
	span time.Duration // zero: as the options say
	run  func(ctx context.Context, t *target)
}

func (a *attack) measure(ctx context.Context, o *hostileOptions) (err error) {
	t, caddy, err := newTarget()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	span := a.span
	if span == 0 {
		span = o.span
	}
	p, err := startProbe(ctx, t.http)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := pause(ctx, min(span, 10*time.Second)); err != nil {
		return err
	}
	before := p.take()
	usage, err := caddy.usage()
	if err != nil {
		return err
	}
	buffers := tcpBuffers()
	m, err := newMeter(caddy)
	if err != nil {
		return err
	}
	attacking, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	go t.sample(attacking, caddy)
	a.run(attacking, t)
	<-attacking.Done()
	if err := m.stop(); err != nil {
		return err
	}
	during := p.take()
	if err := pause(ctx, 2*time.Second); err != nil { // until the last attackers have left
		return err
	}
	after, err := caddy.command("memory")
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %d | %s | %s | %s | %s | %s, %+d | %s | %s |\n", a.name, t.attempts(), t.outcome(), percent(m.caddyCPU, m.elapsed),
		mebi(t.resident-usage.rss), mebi(t.buffers-buffers), mebi(int64(after.Heap)-int64(caddy.atRest.Heap)), after.Goroutines-caddy.atRest.Goroutines,
		ratio(before, during, 0.5), ratio(before, during, 0.99))
	return nil
}

func mebi(n int64) string { return fmt.Sprintf("%+.1f MiB", float64(n)/(1<<20)) }

// ratio formats a quantile before and during the attack.
func ratio(before, during []time.Duration, part float64) string {
	b, d := quantile(before, part), quantile(during, part)
	if b == 0 || d == 0 {
		return "none"
	}
	return fmt.Sprintf("%s → %s (× %.1f)", short(b), short(d), float64(d)/float64(b))
}

// newTarget starts a Caddy with default settings.
func newTarget() (*target, *caddyProcess, error) {
	plain, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	tls, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	t := &target{http: fmt.Sprintf("127.0.0.1:%d", plain), https: fmt.Sprintf("127.0.0.1:%d", tls), counts: make(map[string]int)}
	caddy := &caddyProcess{url: "http://" + t.http}
	err = caddy.launch(func(dir string) string { return fmt.Sprintf(hostileCaddyfile, dir, plain, tls) })
	return t, caddy, err
}

// probe is a well-behaved client, and a sender of events to it.
type probe struct {
	cancel context.CancelFunc
	reader *subscriber
	ended  chan struct{}
}

func startProbe(ctx context.Context, address string) (*probe, error) {
	url := "http://localhost" + address[strings.LastIndexByte(address, ':'):]
	sent := new(sentAt)
	r, err := subscribe(ctx, url+"/events/probe", sent)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{cancel, r, make(chan struct{})}
	go func() {
		defer close(p.ended)
		for ctx.Err() == nil {
			n, _ := sent.next()
			resp, err := http.Post(url+"/publish/probe", "application/json", strings.NewReader(fmt.Sprintf(`{"n":%d}`, n)))
			if err == nil {
				resp.Body.Close()
			}
			_ = pause(ctx, 20*time.Millisecond) // the loop checks the context
		}
	}()
	return p, nil
}

// take returns the delays since its last call, sorted.
func (p *probe) take() (delays []time.Duration) {
	for {
		select {
		case d, ok := <-p.reader.delays:
			if !ok {
				return delays // the stream has ended
			}
			delays = append(delays, d)
		default:
			slices.Sort(delays)
			return delays
		}
	}
}

func (p *probe) stop() {
	p.cancel()
	<-p.ended
	p.reader.body.Close()
}

// tcpBuffers returns the bytes of the kernel's TCP buffers, on both ends of the
// loopback; see proc_net_sockstat(5).
func tcpBuffers() int64 {
	stat, _ := os.ReadFile("/proc/net/sockstat")
	var pages int64
	for line := range strings.Lines(string(stat)) {
		if rest, ok := strings.CutPrefix(line, "TCP:"); ok {
			_, mem, _ := strings.Cut(rest, " mem ")
			_, _ = fmt.Sscan(mem, &pages)
		}
	}
	return pages * int64(os.Getpagesize())
}
