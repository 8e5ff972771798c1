package relay

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/formats"
)

const (
	minReconnect = 100 * time.Millisecond
	maxReconnect = 30 * time.Second
)

// run makes the feed's requests until it is over.
func (f *feed) run() {
	defer close(f.ended)
	how, err := f.exchange(true)
	for f.goesOn(how, err) {
		how, err = f.exchange(false)
	}
	f.finish(how, err)
}

// goesOn waits until the feed asks the backend again. It returns false if the feed is
// over.
func (f *feed) goesOn(how ending, err error) bool {
	f.report(how, err)
	switch {
	case !f.isEndless() || how == passed || how == finished || how == refused || f.ctx.Err() != nil:
		return false
	case errors.Is(err, errDetached):
		return f.awaitViewers()
	case how == failed || how == brokenOff:
		f.failures++
		f.publishStale(http.StatusBadGateway)
	}
	select {
	case <-time.After(f.pause()):
	case <-f.ctx.Done():
		return false
	}
	return f.awaitViewers()
}

// isEndless reports whether the end of a response is a reason to connect again, as
// for an EventSource.
func (f *feed) isEndless() bool {
	return f.request.method == http.MethodGet && (f.format == formats.SSE || f.format == "")
}

// pause returns how long the feed waits before it connects again: what the backend
// has asked for, and longer with each connection that brings no event.
func (f *feed) pause() time.Duration {
	pause := max(f.retry, minReconnect)
	for range min(f.failures, 10) {
		pause = min(pause*2, max(maxReconnect, f.retry))
	}
	return pause
}

// recovered records that an event has come.
func (f *feed) recovered() {
	f.failures = 0
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing = false
}

// report counts a request that has ended, and logs what an operator should know.
func (f *feed) report(how ending, err error) {
	r := f.newestRelay()
	result := map[ending]Result{passed: PassedOn, completed: Completed, finished: Completed, brokenOff: BrokenOff, failed: Failed, refused: PassedOn}[how]
	switch {
	case errors.Is(err, errDetached), errors.Is(err, errExpired), errors.Is(err, errClosed):
		result = Detached
	case how == passed && f.passErr != nil:
		result = Unanswered
	case how == brokenOff, how == failed:
		r.logFailure("the backend's stream has broken off", zap.Error(err))
	}
	r.observer.Requested(result)
}

// finish publishes the last event and ends the feed.
func (f *feed) finish(how ending, err error) {
	relayed := f.isRelayed()
	if !relayed {
		f.end(false, false)
		return
	}
	complete := how == completed && !f.isEndless() || how == finished
	switch {
	case complete && err != errFinished && (f.config.Complete != "" || f.format != formats.SSE):
		data := []byte("{}")
		if f.config.shape.completes != nil {
			if own, ok := f.completion(); ok {
				data = own
			}
		}
		f.publishNotice(event.Event{Name: "complete", Data: data})
	case !complete && how != refused:
		f.publishStale(http.StatusBadGateway)
	}
	f.end(complete, how != refused && !errors.Is(context.Cause(f.ctx), errExpired))
}

// end ends the feed. If kept is set, its viewers may still resume it.
func (f *feed) end(complete, kept bool) {
	f.mu.Lock()
	f.over, f.complete = true, complete
	f.idle.Stop()
	f.sizes, f.caller = nil, nil
	f.mu.Unlock()
	f.request.header, f.request.body = nil, nil
	f.feeds.end(f, kept)
	f.cancel(nil)
	f.done.Set()
}

// completion runs the program of `complete`.
func (f *feed) completion() (data []byte, ended bool) {
	data, ended, err := f.config.shape.complete(context.WithoutCancel(f.ctx), &f.was, time.Since(f.began))
	if err != nil {
		f.newestRelay().logFailure("the program of complete fails", zap.Error(err))
	}
	return data, ended
}
