package webhook

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/internal/template"
)

// DefaultTolerance is how far a signature's time may be from now, in the past
// or the future, unless the rule says otherwise: 5 minutes.
const DefaultTolerance = caddy.Duration(5 * time.Minute)

// Verify says how a sender proves who it is. Most of the options after the
// secrets are for hmac; each says which other senders take it.
type Verify struct {
	// The sender's kind. It must be one of
	//
	//   - github, gitea, bitbucket, stripe, slack, shopify, twilio, paddle,
	//     meta, websub, zoom, x: an HMAC, in each one's own way
	//   - standard-webhooks, svix: the Standard Webhooks specification, v1
	//     signatures, under either name of its headers
	//   - sendgrid: ECDSA; discord: Ed25519; the secret is a public key
	//   - sns: Amazon SNS's signature in the body; the secrets are the names
	//     (ARN) of the topics
	//   - gitlab, cloudevents: a token in a header
	//   - microsoft-graph: the clientState in each notification
	//   - hmac: an HMAC of your own description
	//   - token: a header that holds the secret itself
	//   - basic: a user and a password
	//   - none: nothing is verified, anyone who reaches the URL may send
	Sender string `json:"sender"`

	// The secrets that are shared with the sender, at least one except for
	// none. A request is accepted if any of them fits, so that secrets can be
	// rotated. Placeholders, for example `{env.GITHUB_SECRET}`, are replaced
	// when the configuration is loaded, and must come to something. For
	// standard-webhooks and svix a secret is `whsec_` and the key in Base64,
	// for sendgrid a public key in Base64, for discord one in hex, for basic a
	// hash that `caddy hash-password` has made, for sns the name (ARN) of a
	// topic, for the others the key as it is.
	Secrets []string `json:"secrets,omitempty"`

	// The request header that holds the signature or the token, for example
	// `X-Signature`. hmac and token must have one. (Caddy drops headers with
	// `_` or `.` in their names, unless the server's
	// `expected_underscore_headers` or `expected_dot_headers` lists them.)
	Header string `json:"header,omitempty"`

	// The hash function: `sha256` (the default), `sha1`, `sha384` or `sha512`.
	Algorithm string `json:"algorithm,omitempty"`

	// How the signature is written: `hex` (the default) or `base64`.
	Encoding string `json:"encoding,omitempty"`

	// What stands before the signature or the token in its header, for example
	// `sha256=`; a header without it is refused. Default: nothing. token takes
	// it, too, and doesn't mind its case.
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
	// future. Every sender that signs a time takes it. Default, and what zero
	// means: 5m; for sns, which signs the time of publication, 1h.
	Tolerance caddy.Duration `json:"tolerance,omitempty"`

	// For twilio, which signs the URL that it has called: that URL, as a
	// template of Caddy's placeholders. Where a proxy in front of this Caddy
	// ends TLS or changes the host, say what Twilio sees, for example
	// `https://hooks.example.com{http.request.orig_uri}`. No header of a proxy
	// is believed unless it stands here. Default:
	// `{http.request.scheme}://{http.request.hostport}{http.request.orig_uri}`.
	URL string `json:"url,omitempty"`

	// For basic: the user's name.
	User string `json:"user,omitempty"`

	// What a handshake must show that comes without a signature: for meta the
	// verify token, for websub the `hub.topic`, for cloudevents the
	// `WebHook-Request-Origin`, any of these. Placeholders are replaced as in
	// secrets. Default: none, and then meta's and websub's handshakes are
	// refused, and cloudevents' granted to every origin, since each of its
	// deliveries still has to have the token.
	Challenge []string `json:"challenge,omitempty"`

	// For sns: the hosts that certificates are fetched from and subscriptions
	// are confirmed at, over HTTPS, for example `sns.us-east-1.amazonaws.com`;
	// with `http://` before one, over HTTP, as a stand-in for tests needs it.
	// Default: `sns.REGION.amazonaws.com`, with the region of the topic's name,
	// or `.com.cn` for China's.
	Hosts []string `json:"hosts,omitempty"`
}

// provisioned is what comes of a Verify.
type provisioned struct {
	checker
	sender
	// challenge is what an unsigned handshake must show.
	challenge secrets
	// signing are the keys of an HMAC, for handshakes that want one.
	signing []key
	sns     *sns
}

// Validate checks v without resolving placeholders: a text that holds one
// passes. It returns an error for everything that is wrong whatever the
// placeholders stand for. It changes nothing.
func (v *Verify) Validate() error {
	_, err := v.provision(literal)
	return err
}

// resolver returns the text of a secret. It returns false if the text isn't
// known yet.
type resolver func(text string) (resolved string, ok bool, err error)

// literal resolves texts without placeholders.
func literal(text string) (string, bool, error) { return text, !strings.Contains(text, "{"), nil }

// replacing resolves all texts. A brace that opens no known placeholder belongs
// to the secret.
func replacing(repl *caddy.Replacer) resolver {
	return func(text string) (string, bool, error) {
		resolved, err := repl.ReplaceOrErr(text, true, false)
		return resolved, true, err
	}
}

func (v *Verify) provision(resolve resolver) (*provisioned, error) {
	kind, ok := senders[v.Sender]
	if !ok {
		return nil, fmt.Errorf("verify: unknown sender %q: want one of %s", v.Sender, knownSenders())
	}
	p, err := v.build(kind, resolve)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", v.Sender, err)
	}
	return p, nil
}

func (v *Verify) build(kind sender, resolve resolver) (*provisioned, error) {
	if err := v.checkOptions(kind); err != nil {
		return nil, err
	}
	if kind.proof == byNothing {
		if len(v.Secrets) > 0 {
			return nil, errors.New("it takes no secret")
		}
		return &provisioned{checker: anyone{}, sender: kind}, nil
	}
	kind = v.apply(kind)
	if err := kind.checkHeaders(); err != nil {
		return nil, err
	}
	challenge, err := resolved("challenge", v.Challenge, plainKey, resolve)
	if err != nil {
		return nil, err
	}
	p := &provisioned{sender: kind, challenge: newSecrets(challenge)}
	return p, v.prove(p, resolve)
}

// prove sets the checker.
func (v *Verify) prove(p *provisioned, resolve resolver) (err error) {
	if p.proof == bySignature {
		p.checker, p.signing, err = v.signature(p.sender, resolve)
		return err
	}
	var check func(key []byte) error
	switch p.proof {
	case byPassword:
		check = checkHash
	case bySNS:
		check = func(key []byte) error { return checkTopicName(string(key), v.Hosts) }
	}
	keys, err := v.keys(p.sender, check, resolve)
	if err != nil {
		return err
	}
	switch p.proof {
	case byToken:
		p.checker = &token{newSecrets(keys), p.header, p.prefix}
	case byPassword:
		p.checker = newPassword(v.User, keys)
	case byClientState:
		p.checker = &clientState{newSecrets(keys)}
	default:
		p.sns, err = newSNS(keys, v.Hosts, time.Duration(cmp.Or(v.Tolerance, snsTolerance)))
		p.checker = p.sns
	}
	return err
}

// signature makes a scheme, and a second one if the sender's headers have other
// names, too.
func (v *Verify) signature(kind sender, resolve resolver) (checker, []key, error) {
	if len(kind.methods) > 0 {
		return v.methods(kind, resolve)
	}
	first, err := v.scheme(kind, resolve)
	if err != nil || kind.other == "" {
		return first, first.signers(), err
	}
	second, err := v.scheme(senders[kind.other], resolve)
	return families{first, second}, first.signers(), err
}

// methods makes a scheme of each algorithm that the sender may choose.
func (v *Verify) methods(kind sender, resolve resolver) (checker, []key, error) {
	var all methods
	for _, algorithm := range kind.methods {
		kind.algorithm, kind.prefix = algorithm, algorithm+"="
		s, err := v.scheme(kind, resolve)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, s)
	}
	return all, all[0].keys, nil
}

func (s *scheme) signers() []key {
	if s == nil {
		return nil
	}
	return s.keys
}

// takers are the senders that take an option, for an error.
var takers = map[string]string{"url": "twilio", "user": "basic", "hosts": "sns", "challenge": "meta`, `websub` or `cloudevents"}

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
		{"url", v.URL != ""},
		{"user", v.User != ""},
		{"challenge", len(v.Challenge) > 0},
		{"hosts", len(v.Hosts) > 0},
	} {
		allowed := slices.Contains(kind.options, option.name) ||
			option.name == "tolerance" && (kind.timestamp != "" || kind.timePrefix != "" || slices.Contains(kind.options, "timestamp"))
		if option.set && !allowed {
			return fmt.Errorf("it takes no %s; only `verify %s` does", option.name, cmp.Or(takers[option.name], "hmac"))
		}
	}
	if v.Tolerance < 0 {
		return fmt.Errorf("the tolerance is %v: want a positive duration", time.Duration(v.Tolerance))
	}
	if v.Tolerance > 0 && slices.Contains(kind.options, "timestamp") && v.Timestamp == "" {
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
	kind.url = cmp.Or(v.URL, kind.url)
	return kind
}

func (kind sender) checkHeaders() error {
	switch {
	case kind.header != "" || kind.proof == byPassword || kind.proof == byClientState || kind.proof == bySNS:
	case kind.proof == byToken:
		return errors.New("it needs the header that holds the token: write `verify token X-Token {env.WEBHOOK_TOKEN}`")
	default:
		return errors.New("it needs the header that holds the signature: add `header X-Signature`")
	}
	for _, name := range []string{kind.header, kind.timestamp} {
		if strings.ContainsAny(name, " \t\r\n:{}") {
			return fmt.Errorf("%q is no header's name", name)
		}
	}
	return nil
}

// keys decodes the secrets and checks them; check may be nil. An empty one would
// make a rule that accepts what anyone signs with nothing, so that a variable
// that isn't set has to be an error. No error repeats a secret.
func (v *Verify) keys(kind sender, check func(key []byte) error, resolve resolver) ([][]byte, error) {
	switch {
	case len(v.Secrets) > 0 && (kind.proof != byPassword || v.User != ""):
		return resolved("secret", v.Secrets, decoder(kind.key, check), resolve)
	case kind.proof == bySNS:
		return nil, errors.New("it needs the name of the topic: write `verify sns arn:aws:sns:us-east-1:123456789012:orders`")
	case kind.proof == byPassword:
		return nil, errors.New("it needs a user and the hash of a password: write `verify basic <user> <hash>`, with a hash of `caddy hash-password`")
	case v.Sender == "token":
		return nil, errors.New("it needs a secret: write `verify token X-Token {env.WEBHOOK_TOKEN}`")
	}
	return nil, fmt.Errorf("it needs a secret: write `verify %s {env.WEBHOOK_SECRET}`", v.Sender)
}

// unknownPlaceholder is one that has been left as it was.
var unknownPlaceholder = regexp.MustCompile(`^\s*\{[^{}]*\}\s*$`)

// decoder returns a function that decodes a secret and checks the key that it
// gives. Both decode and check may be nil.
func decoder(decode func(secret string) ([]byte, error), check func(key []byte) error) func(secret string) ([]byte, error) {
	if decode == nil {
		decode = plainKey
	}
	return func(secret string) ([]byte, error) {
		key, err := decode(secret)
		if err == nil && check != nil && !isBlank(key) {
			err = check(key)
		}
		return key, err
	}
}

func isBlank(key []byte) bool { return len(bytes.TrimSpace(key)) == 0 }

// resolved decodes the texts that resolve knows.
func resolved(what string, texts []string, decode func(string) ([]byte, error), resolve resolver) (keys [][]byte, err error) {
	for i, text := range texts {
		text, ok, err := resolve(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s %d: %w: is the variable set?", what, i+1, err)
		case !ok:
			continue
		case unknownPlaceholder.MatchString(text): // it isn't repeated: it may be a secret after all
			return nil, fmt.Errorf("%s %d is a placeholder that nothing is known of, and would be taken as it stands there, for anyone to guess: for a variable of the environment write `{env.NAME}`", what, i+1)
		}
		key, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i+1, err)
		}
		if isBlank(key) {
			return nil, fmt.Errorf("%s %d is empty", what, i+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (v *Verify) scheme(kind sender, resolve resolver) (*scheme, error) {
	signed, err := kind.compileSigned()
	if err != nil {
		return nil, err
	}
	if _, ok := algorithms[kind.algorithm]; !ok && v.Algorithm != "" {
		return nil, fmt.Errorf("unknown algorithm %q: want sha256, sha1, sha384 or sha512", v.Algorithm)
	}
	decode, ok := encodings[kind.encoding]
	if !ok {
		return nil, fmt.Errorf("unknown encoding %q: want hex or base64", kind.encoding)
	}
	check := func(secret []byte) error {
		_, err := newKey(kind.algorithm, secret)
		return err
	}
	secrets, err := v.keys(kind, check, resolve)
	if err != nil {
		return nil, err
	}
	var keys []key
	for _, secret := range secrets {
		key, err := newKey(kind.algorithm, secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	s := &scheme{
		keys: keys, decode: decode, encoding: kind.encoding,
		header: kind.header, prefix: kind.prefix, separator: kind.separator, signed: signed,
		timestamp: kind.timestamp, timePrefix: kind.timePrefix,
		tolerance: time.Duration(cmp.Or(v.Tolerance, DefaultTolerance)),
	}
	return s, s.compile(kind)
}

// compile compiles the templates that are the scheme's own.
func (s *scheme) compile(kind sender) (err error) {
	if kind.url != "" {
		if s.url, err = template.Compile(kind.url); err != nil {
			return fmt.Errorf("url %w", err)
		}
	}
	if kind.other != "" {
		id, err := compileMapping("id", "", kind.id)
		s.id = &id
		return err
	}
	return nil
}
