package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// witness is a stream that is open while others come, with an event every 10 ms.
type witness struct {
	*reader
	sent   *sentAt
	cancel context.CancelFunc
	over   chan error // why the publisher has ended
}

// callWitness opens the stream, and returns when it has had events for 5 s.
func callWitness(ctx context.Context, caddy *caddyProcess) (*witness, error) {
	sent := new(sentAt)
	r, err := follow(ctx, caddy.url+"/witness", sent)
	if err != nil {
		return nil, err
	}
	publishing, cancel := context.WithCancel(ctx)
	w := &witness{r, sent, cancel, make(chan error, 1)}
	go func() { w.over <- w.publish(publishing, caddy) }()
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

// dismiss returns how long each event took to get there.
func (w *witness) dismiss() ([]time.Duration, error) {
	w.cancel()
	failed := <-w.over
	delays, err := w.finish(w.sent.count())
	return delays, errors.Join(failed, err)
}
