package subrequest

import (
	"context"
	"net/http"
	"sync"
)

// Offer lets a client that waits for its first subrequest take that subrequest's
// response over if it is an event stream. So the backend gets the client's request
// once. An Offer is safe for concurrent use.
type Offer struct {
	requester *Requester
	w         http.ResponseWriter
	r         *http.Request
	prepare   func(http.Header)

	mu    sync.Mutex
	state offerState
	done  chan struct{} // made when it is taken, and closed when the stream has ended
	err   error         // of the handlers, after done
}

type offerState int

const (
	offered offerState = iota
	withdrawn
	taken
)

// Offer offers w, the client's own response. The first subrequest that gets an
// event stream before [Offer.End] writes it there, and returns [ErrEventStream] at
// once; prepare is called with the header before. The handlers then write to w on
// another goroutine, until the client's request ends. Later subrequests get
// ErrEventStream without asking.
func (q *Requester) Offer(w http.ResponseWriter, r *http.Request, prepare func(http.Header)) *Offer {
	o := &Offer{requester: q, w: w, r: r, prepare: prepare}
	q.offer.Store(o)
	return o
}

// WithdrawOffer withdraws the offer, if there is one that was not taken: the
// response to a subrequest would not be that to the client's own request.
func (q *Requester) WithdrawOffer() {
	if offer := q.offer.Load(); offer != nil {
		offer.withdraw()
	}
}

// End withdraws the offer. If it was taken, End waits until the stream has ended
// and returns true, with the handlers' error: [ErrAborted] if they have aborted it.
func (o *Offer) End() (wasTaken bool, err error) {
	if o.withdraw() {
		return false, nil
	}
	<-o.done
	return true, o.err
}

// withdraw returns false if the offer was taken.
func (o *Offer) withdraw() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == offered {
		o.state = withdrawn
		o.requester.offer.CompareAndSwap(o, nil) // the requester outlives the client's request
		o.w, o.r, o.prepare = nil, nil, nil
	}
	return o.state == withdrawn
}

func (o *Offer) current() offerState {
	if o == nil {
		return withdrawn
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// do makes a request that ends when the caller's context does, or, from the moment
// when the client takes the response over, when the client's request does.
func (o *Offer) do(q *Requester, req *http.Request, maxBody int64) (*Response, error) {
	type result struct {
		resp *Response
		err  error
	}
	caller := req.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(caller))
	unbind := context.AfterFunc(caller, func() { cancel(context.Cause(caller)) })
	ended, takenOver := make(chan result, 1), make(chan *Response, 1)
	take := func(resp *Response) http.ResponseWriter {
		if !o.take(unbind) {
			return nil
		}
		client := o.r.Context()
		context.AfterFunc(client, func() { cancel(client.Err()) })
		takenOver <- resp
		o.writeHeader(resp)
		return o.w
	}
	go func() {
		defer cancel(nil)
		resp, err := q.do(req.WithContext(ctx), maxBody, take)
		ended <- result{resp, err}
	}()
	select {
	case r := <-ended:
		unbind()
		return r.resp, r.err
	case resp := <-takenOver:
		go func() {
			o.err = (<-ended).err
			close(o.done)
		}()
		return resp, ErrEventStream
	}
}

// take takes the offer, unless the client or the caller has given up.
func (o *Offer) take(unbind func() bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != offered || o.r.Context().Err() != nil || !unbind() {
		return false
	}
	o.state, o.done = taken, make(chan struct{})
	return true
}

func (o *Offer) writeHeader(resp *Response) {
	header := o.w.Header()
	o.prepare(header)
	CopyHeader(header, resp.Header)
	header["Set-Cookie"] = append(header["Set-Cookie"], resp.Header["Set-Cookie"]...) // nobody shares it
	o.w.WriteHeader(resp.Status)
}
