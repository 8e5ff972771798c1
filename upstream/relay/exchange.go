package relay

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/formats"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// ending is how a request to the backend has ended.
type ending int

const (
	passed    ending = iota // the response was passed on, or there was none to relay
	completed               // the stream has ended
	finished                // the stream is complete, and nothing follows
	brokenOff               // the stream has broken off
	failed                  // the backend can't respond now
	refused                 // a later response was no stream
)

var errFinished = errors.New("the stream is complete")

// exchange is one request to the backend, and its response.
type exchange struct {
	feed    *feed
	ctx     context.Context
	cancel  context.CancelCauseFunc
	first   bool // of the feed
	reading *reading
	peeking *peeking
	passing bool
	status  int
}

// exchange makes a request, and relays the response if it is a stream.
func (f *feed) exchange(first bool) (ending, error) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	x := &exchange{feed: f, ctx: ctx, cancel: cancel, first: first}
	f.mu.Lock()
	caller := f.caller
	f.stop = cancel
	f.mu.Unlock()
	resp, err := caller.Stream(f.request.make(ctx, f.lastEventID), x.begin)
	if err == nil && x.peeking != nil {
		err = x.peeking.end()
	}
	f.mu.Lock()
	f.stop = nil
	f.mu.Unlock()
	return x.end(resp, err)
}

// begin decides what becomes of a response.
func (x *exchange) begin(resp *subrequest.Response) (io.Writer, error) {
	format := x.formatOf(resp)
	x.status = resp.Status
	switch {
	case x.first && x.isFailure(resp.Status):
		return nil, errFailed
	case !x.first && format != formats.SSE:
		return nil, errNoStream
	case format == "":
		return x.pass(resp)
	case format == formats.JSONArray && x.feed.config.Format == "":
		x.peeking = &peeking{exchange: x, resp: resp}
		return x.peeking, nil
	default:
		return x.read(resp, format)
	}
}

var (
	errFailed   = errors.New("the backend can't respond now")
	errNoStream = errors.New("the backend's response is no stream any more")
)

// formatOf returns the format in which a response is read; empty if it passes.
func (x *exchange) formatOf(resp *subrequest.Response) formats.Format {
	format := formats.Of(resp.Header.Get("Content-Type"))
	coding := resp.Header.Get("Content-Encoding")
	switch {
	case resp.Status != http.StatusOK || coding != "" && coding != "identity":
		return ""
	case !x.feed.request.asked && format != formats.SSE:
		return ""
	case x.feed.config.Format != "":
		return x.feed.config.Format
	}
	return format
}

// isFailure reports whether a response says that a stream may come later: only a
// client that has asked for one with a GET waits for it.
func (x *exchange) isFailure(status int) bool {
	return subrequest.IsFailure(status) && x.feed.request.asked && x.feed.request.method == http.MethodGet
}

// read begins to relay a response.
func (x *exchange) read(resp *subrequest.Response, format formats.Format) (io.Writer, error) {
	f := x.feed
	decoder, err := formats.New(format, resp.Header.Get("Content-Type"), int(f.config.MaxEvent))
	if err != nil {
		return x.pass(resp)
	}
	if format == formats.SSE {
		decoder = formats.NewSSE(int(f.config.MaxEvent), f.lastEventID)
	}
	f.format = format
	x.reading = &reading{feed: f, ctx: x.ctx, decoder: decoder}
	if x.first {
		f.decide(true, resp.Header)
	}
	return x.reading, nil
}

// pass passes a response on to the client that waits for it.
func (x *exchange) pass(resp *subrequest.Response) (io.Writer, error) {
	c := x.feed.client
	if c.ctx.Err() != nil {
		return nil, c.ctx.Err()
	}
	context.AfterFunc(c.ctx, func() { x.cancel(c.ctx.Err()) })
	x.passing = true
	x.feed.decide(false, resp.Header)
	maps.Copy(c.w.Header(), resp.Header)
	c.w.WriteHeader(resp.Status)
	return c.w, nil
}

// end returns how the request has ended.
func (x *exchange) end(resp *subrequest.Response, err error) (ending, error) {
	f := x.feed
	if x.reading != nil {
		return x.endReading(err)
	}
	if resp != nil && resp.Err != nil {
		x.status, err = resp.Status, resp.Err
	}
	isFailure := x.isFailure(x.status) && (errors.Is(err, errFailed) || resp != nil && resp.Err != nil)
	switch {
	case x.passing:
		f.passErr = err
		return passed, nil
	case !x.first && x.status == http.StatusNoContent:
		return finished, nil
	case x.first && isFailure:
		f.decide(true, nil)
		return failed, err
	case x.first:
		f.passErr = err
		f.decide(false, nil)
		return passed, nil
	case subrequest.IsFailure(x.status) || x.status == 0:
		return failed, err
	default:
		return refused, err
	}
}

func (x *exchange) endReading(err error) (ending, error) {
	f := x.feed
	if err == nil {
		var events []event.Event
		if events, err = x.reading.decoder.End(nil); err == nil {
			err = x.reading.publish(events)
		}
	}
	if d, ok := x.reading.decoder.(*formats.EventStream); ok {
		f.lastEventID = d.LastEventID()
		if retry, ok := d.Retry(); ok {
			f.retry = retry
		}
	}
	switch {
	case errors.Is(err, errFinished):
		return finished, errFinished
	case err != nil:
		return brokenOff, err
	default:
		return completed, nil
	}
}

// reading decodes and publishes a response as its bytes come.
type reading struct {
	feed    *feed
	ctx     context.Context
	decoder formats.Decoder
	decoded []event.Event
}

// Write implements [io.Writer]. It returns when the events are stored and the feed is
// not too far ahead of its viewers.
func (r *reading) Write(p []byte) (int, error) {
	events, decodeErr := r.decoder.Decode(r.decoded[:0], p)
	if err := r.publish(events); err != nil {
		return 0, err
	}
	clear(events)
	if r.decoded = events[:0]; cap(events) > 64 {
		r.decoded = nil
	}
	if decodeErr != nil {
		return 0, decodeErr
	}
	if err := r.feed.awaitRoom(r.ctx); err != nil {
		return 0, err
	}
	return len(p), nil
}

// publish shapes and publishes events. It fails with [errFinished] after an event
// with which an endless stream is complete.
func (r *reading) publish(events []event.Event) error {
	f := r.feed
	shaped := make([]event.Event, 0, len(events))
	finished := false
	for _, e := range events {
		own, err := f.config.shape.apply(r.ctx, e)
		if err != nil {
			f.newestRelay().logFailure("an event of the backend's stream is left out", zap.Error(err))
		}
		shaped = append(shaped, own...)
		for _, e := range own {
			f.was.add(e)
		}
		if f.isEndless() && f.config.shape.completes != nil && len(own) > 0 {
			var data []byte
			if data, finished = f.completion(); finished {
				shaped = append(shaped, event.Event{Name: "complete", Data: data})
				break
			}
		}
	}
	if len(shaped) > 0 {
		f.recovered()
	}
	if err := f.publish(r.ctx, shaped...); err != nil {
		return err
	}
	f.newestRelay().observer.Published(len(shaped))
	if finished {
		return errFinished
	}
	return nil
}

// peeking holds back a response of JSON until its first byte tells whether it is an
// array.
type peeking struct {
	exchange *exchange
	resp     *subrequest.Response
	opening  formats.Opening
	held     []byte
	to       io.Writer
}

// Write implements [io.Writer].
func (k *peeking) Write(p []byte) (int, error) {
	if k.to == nil {
		k.held = append(k.held, p...)
		array, known, _ := k.opening.IsArray(p)
		if !known && int64(len(k.held)) <= k.exchange.feed.config.MaxEvent {
			return len(p), nil
		}
		if err := k.decide(array); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return k.to.Write(p)
}

// FlushError flushes a response that is passed on.
func (k *peeking) FlushError() error {
	if w, ok := k.to.(http.ResponseWriter); ok {
		return http.NewResponseController(w).Flush()
	}
	return nil
}

func (k *peeking) decide(array bool) (err error) {
	if array {
		k.to, err = k.exchange.read(k.resp, formats.JSONArray)
	} else {
		k.to, err = k.exchange.pass(k.resp)
	}
	if err == nil {
		_, err = k.to.Write(k.held)
	}
	k.held = nil
	return err
}

// end passes a response on that has ended without an element.
func (k *peeking) end() error {
	if k.to != nil {
		return nil
	}
	return k.decide(false)
}
