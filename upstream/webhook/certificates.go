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
)

const (
	// maxCertificates is how many are kept of each kind: those that have
	// verified a signature, and those that haven't. SNS has one for each region.
	maxCertificates = 16
	// maxFetches is how many are asked for at a time.
	maxFetches = 4
	// maxWaiting is how many requests may wait for one, and how many fetches
	// may be due: the URL is a stranger's word until the signature is right.
	maxWaiting = 64
	// maxFailures is how many URLs are known to have failed.
	maxFailures = 256
	// fetchPause is how long a URL that has failed isn't asked again.
	fetchPause = time.Second
)

var errBusy = errors.New("too many certificates are waited for")

// certificates fetches and keeps those that messages name. It is safe for
// concurrent use.
type certificates struct {
	get   func(ctx context.Context, u *url.URL) ([]byte, error)
	slots chan struct{} // who has one may fetch

	mu       sync.Mutex
	proven   map[string]*x509.Certificate // they have verified a signature
	unproven map[string]*x509.Certificate
	fetches  map[string]*fetch    // under way
	failures map[string]time.Time // when a URL has failed
	waiting  int
}

// fetch is one that others may wait for.
type fetch struct {
	done        chan struct{} // closed when what follows is set
	certificate *x509.Certificate
	err         error
}

func newCertificates(get func(ctx context.Context, u *url.URL) ([]byte, error)) *certificates {
	return &certificates{
		get: get, slots: make(chan struct{}, maxFetches),
		proven: make(map[string]*x509.Certificate), unproven: make(map[string]*x509.Certificate),
		fetches: make(map[string]*fetch), failures: make(map[string]time.Time),
	}
}

// certificate is the one at a URL, and good now. The context bounds only how
// long the caller waits: who hangs up spoils no fetch.
func (c *certificates) certificate(ctx context.Context, source *url.URL) (*x509.Certificate, error) {
	certificate, fetch, err := c.begin(source)
	if err != nil {
		return nil, err
	}
	if fetch != nil {
		if certificate, err = c.wait(ctx, fetch); err != nil {
			return nil, err
		}
	}
	if now := time.Now(); now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
		return nil, fmt.Errorf("the certificate is good from %v to %v", certificate.NotBefore, certificate.NotAfter)
	}
	return certificate, nil
}

// begin gives the certificate if it is known, or else a place among those that
// wait for its fetch, which is then under way.
func (c *certificates) begin(source *url.URL) (*x509.Certificate, *fetch, error) {
	key := source.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	if certificate := c.known(key); certificate != nil {
		return certificate, nil, nil
	}
	if failed, ok := c.failures[key]; ok && time.Since(failed) < fetchPause {
		return nil, nil, errors.New("the certificate could not be fetched a moment ago")
	}
	f := c.fetches[key]
	if c.waiting >= maxWaiting || f == nil && len(c.fetches) >= maxWaiting {
		return nil, nil, errBusy
	}
	c.waiting++
	if f == nil {
		f = &fetch{done: make(chan struct{})}
		c.fetches[key] = f
		go c.fetch(f, source)
	}
	return nil, f, nil
}

// known needs the lock.
func (c *certificates) known(key string) *x509.Certificate {
	if certificate := c.proven[key]; certificate != nil {
		return certificate
	}
	return c.unproven[key]
}

func (c *certificates) wait(ctx context.Context, f *fetch) (*x509.Certificate, error) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting--
	}()
	select {
	case <-f.done:
		return f.certificate, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch ends in time whatever becomes of the requests that wait for it.
func (c *certificates) fetch(f *fetch, source *url.URL) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		f.certificate, f.err = c.download(ctx, source)
		<-c.slots
	case <-ctx.Done():
		f.err = errBusy
	}
	c.end(f, source.String())
}

func (c *certificates) download(ctx context.Context, source *url.URL) (*x509.Certificate, error) {
	content, err := c.get(ctx, source)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("what %s has there is no certificate in PEM", source.Host)
	}
	return x509.ParseCertificate(block.Bytes)
}

func (c *certificates) end(f *fetch, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fetches, key)
	delete(c.failures, key)
	switch {
	case f.err == nil:
		if len(c.unproven) >= maxCertificates { // who waits for one has it already
			clear(c.unproven)
		}
		c.unproven[key] = f.certificate
	case !errors.Is(f.err, errBusy):
		if len(c.failures) >= maxFailures {
			clear(c.failures)
		}
		c.failures[key] = time.Now()
	}
	close(f.done)
}

// verified is told that a certificate has verified a signature. From then on it
// gives way only to another one that has.
func (c *certificates) verified(source *url.URL, certificate *x509.Certificate) {
	key := source.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proven[key] != nil {
		return
	}
	if len(c.proven) >= maxCertificates {
		c.dropOldest()
	}
	c.proven[key] = certificate
	delete(c.unproven, key)
}

// dropOldest needs the lock.
func (c *certificates) dropOldest() {
	var oldest string
	for key, certificate := range c.proven {
		if oldest == "" || certificate.NotAfter.Before(c.proven[oldest].NotAfter) {
			oldest = key
		}
	}
	delete(c.proven, oldest)
}
