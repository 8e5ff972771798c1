package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-sse/caddy-sse/internal/formats"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// maxWaitForHeader is how long a feed may take to respond.
const maxWaitForHeader = time.Minute

// maxRetryAfter limits how long a feed may ask the module to stay away.
const maxRetryAfter = time.Hour

var errSilent = errors.New("the feed sends nothing")

// refusedFeed is a response that is no feed.
type refusedFeed struct {
	status     int
	reason     string // of a response with status 200
	retryAfter time.Duration
}

func (r *refusedFeed) Error() string {
	switch {
	case r.reason != "":
		return "the response is no feed: " + r.reason
	case r.status/100 == 3:
		return fmt.Sprintf("the feed responds with status %d: write the URL that it redirects to", r.status)
	default:
		return fmt.Sprintf("the feed responds with status %d", r.status)
	}
}

// mayPass reports whether the feed says that it can't respond now.
func (r *refusedFeed) mayPass() bool { return subrequest.IsFailure(r.status) }

// staleStatus returns the status that viewers get. That of a refusal says nothing to
// them: the module has asked, not they.
func (r *refusedFeed) staleStatus() int {
	if r.mayPass() {
		return r.status
	}
	return http.StatusBadGateway
}

// connect makes one request, and publishes what comes until it ends. It returns nil
// if that was a clean end.
func (f *standing) connect() error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	rule := f.rule()
	result, err := f.exchange(ctx, cancel, rule)
	f.mu.Lock()
	f.running = false
	f.mu.Unlock()
	switch {
	case f.ctx.Err() != nil:
		result = Detached
	case ctx.Err() != nil:
		err = context.Cause(ctx)
		fallthrough
	case err != nil:
		f.lost(withoutURL(err))
	}
	rule.Observer.Requested(result)
	return err
}

// withoutURL removes the URL from an error of net/http: it may have credentials.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// exchange makes a request and reads the response. It cancels the context with
// [errSilent] if nothing comes for too long.
func (f *standing) exchange(ctx context.Context, cancel context.CancelCauseFunc, rule *StandingRule) (Result, error) {
	limit := time.Duration(f.config.Timeout)
	silence := time.AfterFunc(cmp.Or(limit, maxWaitForHeader), func() { cancel(errSilent) })
	defer silence.Stop()
	client := http.Client{Transport: rule.Transport, CheckRedirect: checkRedirect}
	if f.feed.place != "" {
		client.Transport = rule.Site
	}
	resp, err := client.Do(f.request(ctx))
	if err != nil {
		return Failed, err
	}
	defer resp.Body.Close()
	decoder, err := f.decoderOf(resp)
	if err != nil {
		return Failed, err
	}
	silence.Stop()
	f.found()
	waits := func() {
		if limit > 0 {
			silence.Reset(limit)
		}
	}
	err = f.read(ctx, resp.Body, decoder, waits, func() { silence.Stop() })
	if d, ok := decoder.(*formats.EventStream); ok {
		f.lastEventID = d.LastEventID()
		if retry, ok := d.Retry(); ok {
			f.retry = retry
		}
	}
	if err != nil {
		return BrokenOff, err
	}
	return Completed, nil
}

// request returns the next request, which continues after the last event.
func (f *standing) request(ctx context.Context) *http.Request {
	u := *f.feed.URL
	r := &http.Request{
		Method: http.MethodGet, URL: &u, Host: f.config.host, Header: f.config.header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	for name, value := range map[string]string{"Accept": accept, "User-Agent": "caddy-sse", "Cache-Control": "no-cache"} {
		if r.Header.Get(name) == "" {
			r.Header.Set(name, value)
		}
	}
	if canBeSent(f.lastEventID) {
		r.Header.Set("Last-Event-ID", f.lastEventID)
	}
	return r.WithContext(ctx)
}

// canBeSent reports whether an id can stand in a header. One with a control character
// can't; a browser doesn't send it either.
func canBeSent(id string) bool { return id != "" && httpguts.ValidHeaderFieldValue(id) }

// maxRedirects is what browsers allow, too.
const maxRedirects = 10

// checkRedirect lets redirects go only to the same origin. Another one would get the
// headers of the rule, which may have credentials, and may be an address that only
// this machine reaches.
func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// decoderOf returns the decoder of a response. It fails with a [refusedFeed].
func (f *standing) decoderOf(resp *http.Response) (formats.Decoder, error) {
	contentType := resp.Header.Get("Content-Type")
	format := f.config.Format
	if format == "" {
		format = formats.Of(contentType)
	}
	coding := resp.Header.Get("Content-Encoding")
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, &refusedFeed{status: resp.StatusCode, retryAfter: subrequest.RetryAfter(resp.Header, time.Now(), maxRetryAfter)}
	case coding != "" && coding != "identity":
		return nil, &refusedFeed{status: resp.StatusCode, reason: "it has a Content-Encoding"}
	case format == "":
		return nil, &refusedFeed{status: resp.StatusCode, reason: "its Content-Type has no format; add the option format"}
	}
	d, err := formats.New(format, contentType, int(f.config.MaxEvent))
	if err != nil {
		return nil, &refusedFeed{status: resp.StatusCode, reason: "its Content-Type has no boundary"}
	}
	if format == formats.SSE {
		sse := formats.NewSSE(int(f.config.MaxEvent), f.lastEventID)
		sse.OwnIDs = true
		return sse, nil
	}
	return d, nil
}

// read publishes a response as its bytes come. waits is called before it waits for the
// next ones, and came when they are there.
func (f *standing) read(ctx context.Context, body io.Reader, d formats.Decoder, waits, came func()) error {
	buf := make([]byte, 32<<10)
	for {
		waits()
		n, readErr := body.Read(buf)
		came()
		events, err := d.Decode(nil, buf[:n])
		if err == nil && readErr == io.EOF {
			events, err = d.End(events)
		}
		if publishErr := f.publish(ctx, events); publishErr != nil {
			return publishErr
		}
		switch {
		case err != nil:
			return err
		case readErr == io.EOF:
			return nil
		case readErr != nil:
			return readErr
		}
	}
}
