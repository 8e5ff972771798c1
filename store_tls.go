package caddysse

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// StoreTLS configures a store's TLS connections.
type StoreTLS struct {
	// The path of a file with the certificates of the authorities that the
	// servers' certificates must come from. Default: the system's.
	CA string `json:"ca,omitempty"`

	// The paths of the client's certificate and of its key. Default: none.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
}

// config returns nil if TLS is off.
func (s *StoreTLS) config() (*tls.Config, error) {
	if s == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: %s holds no certificate", s.CA)
		}
	}
	if s.Certificate != "" || s.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// parseStoreTLS parses a block, which may be empty:
//
//	tls {
//		ca   <file>
//		cert <file> <key file>
//	}
func parseStoreTLS(dst **StoreTLS) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.Errf("tls takes a block, got %q", d.Val())
		}
		*dst = new(StoreTLS)
		return parseBlock(d, "tls", options{
			"ca":   word(&(*dst).CA),
			"cert": pair(&(*dst).Certificate, &(*dst).Key),
		})
	}
}

// pair parses exactly two arguments.
func pair(a, b *string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Errf("%s takes two values, got %d", option, len(args))
		}
		*a, *b = args[0], args[1]
		return nil
	}
}
