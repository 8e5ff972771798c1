package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// witness is a stream that is open while others connect. It receives an event every
// 10 ms.
type witness struct {
	*subscriber
	sent   *sentAt
	cancel context.CancelFunc
	ended  chan error // the publisher's error
}

// startWitness opens the stream, and returns after 5 s of events.
func startWitness(ctx context.Context, caddy *caddyProcess) (*witness, error) {
	sent := new(sentAt)
	r, err := subscribe(ctx, caddy.url+"/witness", sent)
	if err != nil {
		return nil, err
	}
	publishing, cancel := context.WithCancel(ctx)
	w := &witness{r, sent, cancel, make(chan error, 1)}
	go func() { w.ended <- w.publish(publishing, caddy) }()
	return w, pause(ctx, 5*time.Second)
}

func (w *witness) publish(ctx context.Context, caddy *caddyProcess) error {
	for pause(ctx, 10*time.Millisecond) == nil {
		n, _ := w.sent.next()
		if _, err := caddy.publish(context.WithoutCancel(ctx), "witness", fmt.Sprintf(`{"n":%d}`, n)); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the publisher and returns the delay of each event.
func (w *witness) stop() ([]time.Duration, error) {
	w.cancel()
	failed := <-w.ended
	delays, err := w.finish(w.sent.count())
	return delays, errors.Join(failed, err)
}
