package webhook

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/inflight"
)

const (
	// maxCertificates limits the cached certificates of each kind: those that
	// have verified a signature, and those that haven't. SNS has one certificate
	// for each region.
	maxCertificates = 16
	// maxFetches limits the concurrent fetches.
	maxFetches = 4
	// maxWaiting limits the requests that wait for certificates, and the fetches
	// that run or wait: any client chooses the URL until the signature is
	// verified.
	maxWaiting = 64
	// maxFailures limits the cached failures.
	maxFailures = 256
	// failureTTL is how long the module doesn't fetch a URL again that has
	// failed.
	failureTTL = time.Second
)

var errBusy = errors.New("too many requests wait for certificates")

// certificates fetches and caches the certificates that messages name. It is
// safe for concurrent use.
type certificates struct {
	get     func(ctx context.Context, u *url.URL) ([]byte, error)
	slots   chan struct{} // of fetches that run
	waiting chan struct{} // a slot for each request that waits
	fetches inflight.Group[*x509.Certificate]

	mu       sync.Mutex
	proven   map[string]*x509.Certificate // have verified a signature
	unproven map[string]*x509.Certificate
	failures map[string]time.Time // when the fetch of a URL has failed
}

func newCertificates(get func(ctx context.Context, u *url.URL) ([]byte, error)) *certificates {
	return &certificates{
		get: get, slots: make(chan struct{}, maxFetches), waiting: make(chan struct{}, maxWaiting),
		// A client that disconnects must not spoil the fetch for others.
		fetches: inflight.Group[*x509.Certificate]{Detached: true, MaxCalls: maxWaiting},
		proven:  make(map[string]*x509.Certificate), unproven: make(map[string]*x509.Certificate),
		failures: make(map[string]time.Time),
	}
}

// certificate returns the certificate at a URL if it is valid now. The context
// limits only how long the caller waits.
func (c *certificates) certificate(ctx context.Context, source *url.URL) (*x509.Certificate, error) {
	certificate, err := c.cached(source.String())
	if certificate == nil && err == nil {
		certificate, err = c.fetch(ctx, source)
	}
	if err != nil {
		return nil, err
	}
	if now := time.Now(); now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
		return nil, fmt.Errorf("the certificate is valid from %v to %v", certificate.NotBefore, certificate.NotAfter)
	}
	return certificate, nil
}

// cached returns a cached certificate or a cached failure, if there is one.
func (c *certificates) cached(key string) (*x509.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if certificate := c.proven[key]; certificate != nil {
		return certificate, nil
	}
	if certificate := c.unproven[key]; certificate != nil {
		return certificate, nil
	}
	if failed, ok := c.failures[key]; ok && time.Since(failed) < failureTTL {
		return nil, errors.New("fetching the certificate has just failed")
	}
	return nil, nil
}

// fetch fetches a certificate, or waits for a fetch of it that is in flight.
func (c *certificates) fetch(ctx context.Context, source *url.URL) (*x509.Certificate, error) {
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return nil, errBusy
	}
	key := source.String()
	certificate, _, err := c.fetches.Do(ctx, key, func(ctx context.Context) (*x509.Certificate, error) {
		if certificate, err := c.cached(key); certificate != nil || err != nil { // another fetch has just ended
			return certificate, err
		}
		certificate, err := c.download(ctx, source)
		c.cache(key, certificate, err)
		return certificate, err
	})
	return certificate, err
}

// download waits for a slot. It ends within fetchTimeout.
func (c *certificates) download(ctx context.Context, source *url.URL) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, errBusy
	}
	body, err := c.get(ctx, source)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(body)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("the response of %s is not a certificate in PEM", source.Host)
	}
	return x509.ParseCertificate(block.Bytes)
}

// cache stores the result of a fetch. A client that floods it with URLs
// displaces only unproven certificates.
func (c *certificates) cache(key string, certificate *x509.Certificate, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.failures, key)
	switch {
	case err == nil:
		if len(c.unproven) >= maxCertificates { // the callers that wait have theirs already
			clear(c.unproven)
		}
		c.unproven[key] = certificate
	case !errors.Is(err, errBusy):
		if len(c.failures) >= maxFailures {
			clear(c.failures)
		}
		c.failures[key] = time.Now()
	}
}

// setProven records that a certificate has verified a signature. From then on
// only another proven certificate can displace it.
func (c *certificates) setProven(source *url.URL, certificate *x509.Certificate) {
	key := source.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proven[key] != nil {
		return
	}
	if len(c.proven) >= maxCertificates {
		c.dropOldestLocked()
	}
	c.proven[key] = certificate
	delete(c.unproven, key)
}

func (c *certificates) dropOldestLocked() {
	var oldest string
	for key, certificate := range c.proven {
		if oldest == "" || certificate.NotAfter.Before(c.proven[oldest].NotAfter) {
			oldest = key
		}
	}
	delete(c.proven, oldest)
}
