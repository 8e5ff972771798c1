package webhook

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// DefaultTolerance is how far a signature's time may be from now, in the past
// or the future, unless the rule says otherwise: 5 minutes.
const DefaultTolerance = caddy.Duration(5 * time.Minute)

// Verify says how a sender proves who it is. The options after the secrets are
// for hmac; of the other senders only those with a timestamp take one, the
// tolerance.
type Verify struct {
	// The sender's kind. It must be one of
	//
	//   - github: X-Hub-Signature-256 over the body
	//   - standard-webhooks: the Standard Webhooks specification, v1 signatures
	//   - hmac: an HMAC of your own description
	//   - none: nothing is verified, anyone who reaches the URL may send
	Sender string `json:"sender"`

	// The secrets that are shared with the sender, at least one except for
	// none. A request is accepted if any of them fits, so that secrets can be
	// rotated. Placeholders, for example `{env.GITHUB_SECRET}`, are replaced
	// when the configuration is loaded, and must come to something. For
	// standard-webhooks a secret is `whsec_` and the key in Base64, for the
	// others the key as it is.
	Secrets []string `json:"secrets,omitempty"`

	// The request header that holds the signature, for example `X-Signature`.
	// hmac must have one. (Caddy drops headers with `_` or `.` in their names,
	// unless the server's `expected_underscore_headers` or
	// `expected_dot_headers` lists them.)
	Header string `json:"header,omitempty"`

	// The hash function: `sha256` (the default), `sha1` or `sha512`.
	Algorithm string `json:"algorithm,omitempty"`

	// How the signature is written: `hex` (the default) or `base64`.
	Encoding string `json:"encoding,omitempty"`

	// What stands before the signature in its header, for example `sha256=`;
	// a header without it is refused. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	// What is signed, as a template of `{body}`, which must be in it,
	// `{timestamp}` and `{header.NAME}`, for example `{timestamp}.{body}`.
	// A header that is part of it must come exactly once. Default: `{body}`.
	Signed string `json:"signed,omitempty"`

	// The request header that holds the time of the signature in unix
	// seconds, for example `X-Timestamp`. It must be part of what is signed,
	// or anyone could change it. Default: none, and then a request that was
	// caught once can be sent again at any time.
	Timestamp string `json:"timestamp,omitempty"`

	// How far the time of the signature may be from now, in the past or the
	// future. Default, and what zero means: 5m.
	Tolerance caddy.Duration `json:"tolerance,omitempty"`
}

// provisioned is what comes of a Verify: the check, and the sender's templates
// for an event's name and id.
type provisioned struct {
	*verifier
	event, id string
}

var algorithms = map[string]func() hash.Hash{
	"sha1":   sha1.New,
	"sha256": sha256.New,
	"sha512": sha512.New,
}

var encodings = map[string]func(string) ([]byte, error){
	"hex":    hex.DecodeString,
	"base64": base64.StdEncoding.DecodeString,
}

func (v *Verify) provision(repl *caddy.Replacer) (*provisioned, error) {
	kind, ok := senders[v.Sender]
	if !ok {
		return nil, fmt.Errorf("verify: unknown sender %q: want one of %s", v.Sender, knownSenders())
	}
	verifier, err := v.verifier(kind, repl)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", v.Sender, err)
	}
	return &provisioned{verifier, kind.event, kind.id}, nil
}

func (v *Verify) verifier(kind sender, repl *caddy.Replacer) (*verifier, error) {
	if err := v.checkOptions(kind); err != nil {
		return nil, err
	}
	if kind.open {
		if len(v.Secrets) > 0 {
			return nil, errors.New("it takes no secret")
		}
		return &verifier{open: true}, nil
	}
	kind = v.apply(kind)
	if err := kind.checkHeaders(); err != nil {
		return nil, err
	}
	signed, err := compileSigned(kind.signed, kind.timestamp)
	if err != nil {
		return nil, err
	}
	keys, err := v.keys(kind, repl)
	if err != nil {
		return nil, err
	}
	return kind.verifier(keys, signed, v.tolerance())
}

// checkOptions refuses an option that the sender leaves no choice about.
func (v *Verify) checkOptions(kind sender) error {
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"header", v.Header != ""},
		{"algorithm", v.Algorithm != ""},
		{"encoding", v.Encoding != ""},
		{"prefix", v.Prefix != ""},
		{"signed", v.Signed != ""},
		{"timestamp", v.Timestamp != ""},
		{"tolerance", v.Tolerance != 0},
	} {
		allowed := kind.custom || option.name == "tolerance" && kind.timestamp != ""
		if option.set && !allowed {
			return fmt.Errorf("it takes no %s; only `verify hmac` does", option.name)
		}
	}
	if v.Tolerance < 0 {
		return fmt.Errorf("the tolerance is %v: want a positive duration", time.Duration(v.Tolerance))
	}
	if v.Tolerance > 0 && kind.custom && v.Timestamp == "" {
		return errors.New("a tolerance is for a timestamp: add `timestamp X-Timestamp`")
	}
	return nil
}

// apply puts the options into the sender's row.
func (v *Verify) apply(kind sender) sender {
	kind.header = cmp.Or(v.Header, kind.header)
	kind.algorithm = cmp.Or(v.Algorithm, kind.algorithm)
	kind.encoding = cmp.Or(v.Encoding, kind.encoding)
	kind.prefix = cmp.Or(v.Prefix, kind.prefix)
	kind.signed = cmp.Or(v.Signed, kind.signed)
	kind.timestamp = cmp.Or(v.Timestamp, kind.timestamp)
	return kind
}

func (kind sender) checkHeaders() error {
	if kind.header == "" {
		return errors.New("it needs the header that holds the signature: add `header X-Signature`")
	}
	for _, name := range []string{kind.header, kind.timestamp} {
		if strings.ContainsAny(name, " \t\r\n:{}") {
			return fmt.Errorf("%q is no header's name", name)
		}
	}
	return nil
}

func (v *Verify) tolerance() time.Duration {
	return time.Duration(cmp.Or(v.Tolerance, DefaultTolerance))
}

// keys decodes the secrets. An empty one would make a rule that accepts what
// anyone signs with nothing, so that a variable that isn't set has to be an
// error. No error repeats a secret.
func (v *Verify) keys(kind sender, repl *caddy.Replacer) (keys [][]byte, err error) {
	if len(v.Secrets) == 0 {
		return nil, fmt.Errorf("it needs a secret: write `verify %s {env.WEBHOOK_SECRET}`", v.Sender)
	}
	for i, secret := range v.Secrets {
		// A brace that opens no known placeholder belongs to the secret.
		secret, err := repl.ReplaceOrErr(secret, true, false)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w: is the variable set?", i+1, err)
		}
		key, err := kind.key(secret)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		if strings.TrimSpace(string(key)) == "" {
			return nil, fmt.Errorf("secret %d is empty", i+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (kind sender) verifier(keys [][]byte, signed []signedPart, tolerance time.Duration) (*verifier, error) {
	newHash, ok := algorithms[kind.algorithm]
	if !ok {
		return nil, fmt.Errorf("unknown algorithm %q: want sha256, sha1 or sha512", kind.algorithm)
	}
	decode, ok := encodings[kind.encoding]
	if !ok {
		return nil, fmt.Errorf("unknown encoding %q: want hex or base64", kind.encoding)
	}
	return &verifier{
		keys: keys, newHash: newHash, decode: decode,
		header: kind.header, prefix: kind.prefix, list: kind.list,
		signed: signed, timestamp: kind.timestamp, tolerance: tolerance,
	}, nil
}
