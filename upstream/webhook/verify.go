package webhook

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// DefaultTolerance is the default of [Verify.Tolerance]: 5 minutes.
const DefaultTolerance = caddy.Duration(5 * time.Minute)

// Verify sets how the module verifies the sender of a request. Most options
// after the secrets are for hmac; each names the other senders that take it.
type Verify struct {
	// Sets the kind of the sender. One of
	//
	//   - github, gitea, bitbucket, bitbucket-data-center, stripe, slack,
	//     shopify, twilio, paddle, meta, websub, zoom, x, hubspot, pagerduty,
	//     zendesk, square, woocommerce, linear: an HMAC, each with its own headers
	//   - standard-webhooks, svix: the Standard Webhooks specification, v1
	//     signatures, with either set of header names
	//   - sendgrid: ECDSA; discord: Ed25519; the secret is a public key
	//   - sns: Amazon SNS's signature in the body; the secrets are the names
	//     (ARN) of the topics
	//   - gitlab, cloudevents, auth0: a token in a header
	//   - microsoft-graph: the clientState in each notification
	//   - hmac: an HMAC that the options describe
	//   - token: a header that holds the secret itself
	//   - basic: a user and a password
	//   - none: no verification; every client of the URL may send
	Sender string `json:"sender"`

	// Sets the secrets that the sender shares with this rule. All senders except
	// none need at least one. The module accepts a request that fits any of
	// them, so that secrets can be rotated. The module replaces placeholders,
	// for example `{env.GITHUB_SECRET}`, when it loads the configuration. A
	// placeholder must not be empty. The secret is, for standard-webhooks and svix,
	// `whsec_` and the key in Base64; for sendgrid, a public key in Base64; for
	// discord, a public key in hex; for basic, a hash that `caddy hash-password`
	// has made; for sns, the name (ARN) of a topic; for all others, the key as
	// it is.
	Secrets []string `json:"secrets,omitempty"`

	// Sets the request header that holds the signature or the token, for example
	// `X-Signature`. hmac and token require it. (Caddy drops headers with `_`
	// or `.` in their names, unless the server's `expected_underscore_headers`
	// or `expected_dot_headers` lists them.)
	Header string `json:"header,omitempty"`

	// Sets the hash function: `sha256`, `sha1`, `sha384` or `sha512`. Default:
	// `sha256`.
	Algorithm string `json:"algorithm,omitempty"`

	// Sets the encoding of the signature: `hex` or `base64`, which is either
	// alphabet of RFC 4648, with or without padding. Default: `hex`.
	Encoding string `json:"encoding,omitempty"`

	// Sets the text that precedes the signature or the token in its header, for
	// example `sha256=`. The module refuses a header without it. token takes
	// this option, too, and ignores its case. Default: none.
	Prefix string `json:"prefix,omitempty"`

	// Sets what separates the signatures in a header that has several, and the
	// time if timestamp_prefix is set, for example `,`. The module accepts the
	// request if one of the signatures is right. It ignores what doesn't begin
	// with prefix. Default: none; the header has one signature.
	Separator string `json:"separator,omitempty"`

	// Sets how the key is made of a secret: `text`, the secret as it is; `hex`
	// or `base64`, decoded; `whsec`, Base64 after `whsec_` or `v1,whsec_`, as
	// Standard Webhooks writes secrets. Default: `text`.
	Key string `json:"key,omitempty"`

	// Sets the signed message, as a template of `{body}`, `{timestamp}`,
	// `{header.NAME}`, `{method}`, `{url}`, `{scheme}`, `{host}`, `{hostport}`,
	// `{uri}`, `{path}` and `{query}`, for example `{timestamp}.{body}`.
	// `{body}` is required. The parts of the URL are those that the sender has
	// called, before rewrites; `{url}` is what the option url says. Each header
	// in the message must come exactly once. Default: `{body}`.
	Signed string `json:"signed,omitempty"`

	// Sets the request header that holds the time of the signature, for example
	// `X-Timestamp`, or a field of the body, for example `{json.sent_at}`. The
	// time is in unix seconds, in unix milliseconds or as RFC 3339 says. The
	// signed message must include it, or anyone could change it. Default: none.
	// Without a timestamp, an attacker can send a captured request again at any
	// time.
	Timestamp string `json:"timestamp,omitempty"`

	// Sets what precedes the time in the header of the signature, instead of
	// timestamp, for example `t=` for `t=1492774577,v1=5257a8…`. It needs a
	// separator. Default: none.
	TimestampPrefix string `json:"timestamp_prefix,omitempty"`

	// Limits how far the time of the signature may be from now, in the past or
	// the future. Every sender that signs a time takes this option. Default, and
	// what zero means: 5m, or, for sns, which signs the time of publication, 1h.
	Tolerance caddy.Duration `json:"tolerance,omitempty"`

	// For twilio, hubspot, square and hmac's `{url}`: sets the URL that the
	// sender has called and signed, as a template of Caddy's placeholders. If a
	// proxy in front of this Caddy ends TLS or changes the host, set the URL
	// that the sender calls, for example
	// `https://hooks.example.com{http.request.orig_uri}`. The module reads no
	// headers of a proxy unless the template does. Default:
	// `{http.request.scheme}://{http.request.hostport}{http.request.orig_uri}`.
	URL string `json:"url,omitempty"`

	// For basic: sets the user's name.
	User string `json:"user,omitempty"`

	// Sets the valid values of unsigned handshakes: for meta, the verify token;
	// for websub, the `hub.topic`; for cloudevents, the
	// `WebHook-Request-Origin`. The module replaces placeholders as in secrets.
	// Default: none. Then the module refuses the handshakes of meta and websub,
	// and grants those of cloudevents to every origin, since each of its
	// deliveries still needs the token.
	Challenge []string `json:"challenge,omitempty"`

	// For sns: sets the hosts from which the module fetches certificates and at
	// which it confirms subscriptions, over HTTPS, for example
	// `sns.us-east-1.amazonaws.com`. `http://` before a host, for tests, selects
	// HTTP. Default: `sns.REGION.amazonaws.com` with the region of the topic's
	// name, or `.com.cn` for China's regions.
	Hosts []string `json:"hosts,omitempty"`
}

// verifier verifies the requests of a sender and answers its handshakes.
type verifier struct {
	checker
	sender
	// challenge are the valid values of unsigned handshakes.
	challenge secrets
	// signing are the keys of an HMAC, for handshakes that want a signature.
	signing []key
	sns     *sns
}

// checker refuses requests that don't come from the sender. It reads the original
// body.
type checker interface {
	check(r *request) *refusal.Error
}

// headerChecker is a checker that needs no body. It runs before the module
// reads the body, so that only the sender's bodies use memory.
type headerChecker interface {
	checker
	headersOnly()
}

// acceptAll is the checker of the sender none.
type acceptAll struct{}

func (acceptAll) check(*request) *refusal.Error { return nil }

// Validate checks v without resolving placeholders: a text that holds one
// passes. It returns an error for every mistake that doesn't depend on the
// values of placeholders. It changes nothing.
func (v *Verify) Validate() error {
	_, err := v.provision(literal)
	return err
}

// resolver returns the text of a secret with its placeholders replaced. It
// returns false if their values aren't known yet.
type resolver func(text string) (resolved string, ok bool, err error)

// literal resolves only texts without placeholders.
func literal(text string) (string, bool, error) { return text, !strings.Contains(text, "{"), nil }

// replacing resolves all texts. A brace that opens no known placeholder belongs
// to the secret.
func replacing(repl *caddy.Replacer) resolver {
	return func(text string) (string, bool, error) {
		resolved, err := repl.ReplaceOrErr(text, true, false)
		return resolved, true, err
	}
}

func (v *Verify) provision(resolve resolver) (*verifier, error) {
	s, ok := senders[v.Sender]
	if !ok {
		return nil, fmt.Errorf("verify: unknown sender %q: want one of %s", v.Sender, knownSenders())
	}
	verifier, err := v.newVerifier(s, resolve)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", v.Sender, err)
	}
	return verifier, nil
}

func (v *Verify) newVerifier(s sender, resolve resolver) (*verifier, error) {
	if err := v.checkOptions(s); err != nil {
		return nil, err
	}
	if s.method == byNothing {
		if len(v.Secrets) > 0 {
			return nil, errors.New("it takes no secret")
		}
		return &verifier{checker: acceptAll{}, sender: s}, nil
	}
	s = v.apply(s)
	if err := s.checkHeaders(); err != nil {
		return nil, err
	}
	challenge, err := decodeAll("challenge", v.Challenge, plainKey, resolve)
	if err != nil {
		return nil, err
	}
	verifier := &verifier{sender: s, challenge: newSecrets(challenge)}
	return verifier, v.setChecker(verifier, resolve)
}

func (v *Verify) setChecker(to *verifier, resolve resolver) (err error) {
	if to.method == bySignature {
		to.checker, to.signing, err = v.schemes(to.sender, resolve)
		return err
	}
	var check func(key []byte) error
	switch to.method {
	case byPassword:
		check = checkHash
	case bySNS:
		check = func(key []byte) error { return checkTopicName(string(key), v.Hosts) }
	}
	keys, err := v.keys(to.sender, check, resolve)
	if err != nil {
		return err
	}
	switch to.method {
	case byToken:
		to.checker = &token{newSecrets(keys), to.header, to.prefix}
	case byPassword:
		to.checker = newPassword(v.User, keys)
	case byClientState:
		to.checker = &clientState{newSecrets(keys)}
	default:
		to.sns, err = newSNS(keys, v.Hosts, time.Duration(cmp.Or(v.Tolerance, snsTolerance)))
		to.checker = to.sns
	}
	return err
}

// schemes returns a checker of one scheme, or of one for each alternative that
// the sender has, and the keys for handshakes.
func (v *Verify) schemes(s sender, resolve resolver) (checker, []key, error) {
	switch {
	case len(s.sizes) > 0:
		return v.bySize(s, resolve)
	case len(s.algorithms) > 0:
		return v.anyAlgorithm(s, resolve)
	}
	first, err := v.scheme(s, resolve)
	if err != nil {
		return nil, nil, err
	}
	if s.alternative == "" {
		return first, first.keys, nil
	}
	second, err := v.scheme(senders[s.alternative], resolve)
	return eitherHeaders{first, second}, first.keys, err
}

func (v *Verify) anyAlgorithm(s sender, resolve resolver) (checker, []key, error) {
	var all anyAlgorithm
	for _, algorithm := range s.algorithms {
		s.algorithm, s.prefix = algorithm, algorithm+"="
		scheme, err := v.scheme(s, resolve)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, scheme)
	}
	return all, all[0].keys, nil
}

func (v *Verify) bySize(s sender, resolve resolver) (checker, []key, error) {
	var all bySize
	for _, algorithm := range s.sizes {
		s.algorithm = algorithm
		scheme, err := v.scheme(s, resolve)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, scheme)
	}
	if len(all[0].keys) == 0 { // secrets whose placeholders aren't resolved yet
		return all[0], nil, nil
	}
	return all, all[0].keys, nil
}

func (s sender) checkHeaders() error {
	switch {
	case s.header != "" || s.method == byPassword || s.method == byClientState || s.method == bySNS:
	case s.method == byToken:
		return errors.New("it needs the header that holds the token: write `verify token X-Token {env.WEBHOOK_TOKEN}`")
	default:
		return errors.New("it needs the header that holds the signature: add `header X-Signature`")
	}
	for _, name := range []string{s.header, s.timestamp} {
		if strings.ContainsAny(name, " \t\r\n:{}") {
			return fmt.Errorf("%q is not the name of a header", name)
		}
	}
	return nil
}

// keys decodes the secrets and checks them; check may be nil. An empty secret is
// an error: anyone could sign with it, and a variable may not be set. No error
// repeats a secret.
func (v *Verify) keys(s sender, check func(key []byte) error, resolve resolver) ([][]byte, error) {
	switch {
	case s.method == byPassword && (v.User == "" || len(v.Secrets) == 0):
		return nil, errors.New("it needs a user and the hash of a password: write `verify basic <user> <hash>`, with a hash of `caddy hash-password`")
	case len(v.Secrets) > 0:
		decode := s.decodeKey
		if decode == nil {
			decode = plainKey
		}
		if v.Key != "" {
			if decode = keyFormats[v.Key]; decode == nil {
				return nil, fmt.Errorf("unknown key %q: want text, hex, base64 or whsec", v.Key)
			}
		}
		return decodeAll("secret", v.Secrets, checked(decode, check), resolve)
	case s.method == bySNS:
		return nil, errors.New("it needs the name of the topic: write `verify sns arn:aws:sns:us-east-1:123456789012:orders`")
	case v.Sender == "token":
		return nil, errors.New("it needs a secret: write `verify token X-Token {env.WEBHOOK_TOKEN}`")
	}
	return nil, fmt.Errorf("it needs a secret: write `verify %s {env.WEBHOOK_SECRET}`", v.Sender)
}

// checked returns a function that decodes a secret and checks its key. It leaves
// empty keys to [decodeAll].
func checked(decode func(secret string) ([]byte, error), check func(key []byte) error) func(secret string) ([]byte, error) {
	return func(secret string) ([]byte, error) {
		key, err := decode(secret)
		if err == nil && check != nil && !isBlank(key) {
			err = check(key)
		}
		return key, err
	}
}

func isBlank(key []byte) bool { return len(bytes.TrimSpace(key)) == 0 }

// unknownPlaceholder matches a text that is nothing but one placeholder that the
// replacer has left as it was.
var unknownPlaceholder = regexp.MustCompile(`^\s*\{[^{}]*\}\s*$`)

// decodeAll decodes the texts that resolve knows.
func decodeAll(what string, texts []string, decode func(string) ([]byte, error), resolve resolver) (keys [][]byte, err error) {
	for i, text := range texts {
		text, ok, err := resolve(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s %d: %w: is the variable set?", what, i+1, err)
		case !ok:
			continue
		case unknownPlaceholder.MatchString(text): // the error doesn't repeat it: it may be a secret after all
			return nil, fmt.Errorf("%s %d is an unknown placeholder, and its own text would be a secret that anyone can guess: for a variable of the environment write `{env.NAME}`", what, i+1)
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

func (v *Verify) scheme(s sender, resolve resolver) (*scheme, error) {
	signed, err := s.compileSigned()
	if err != nil {
		return nil, err
	}
	if _, ok := hashes[s.algorithm]; !ok && v.Algorithm != "" {
		return nil, fmt.Errorf("unknown algorithm %q: want sha256, sha1, sha384 or sha512", v.Algorithm)
	}
	decode, ok := encodings[s.encoding]
	if !ok {
		return nil, fmt.Errorf("unknown encoding %q: want hex or base64", s.encoding)
	}
	keys, err := v.signatureKeys(s, resolve)
	if err != nil {
		return nil, err
	}
	scheme := &scheme{
		keys: keys, decode: decode, encoding: s.encoding,
		header: s.header, prefix: s.prefix, separator: s.separator, signed: signed,
		timestamp: s.timestamp, timePrefix: s.timePrefix, timeField: s.timeField, spelledURL: s.spelledURL,
		tolerance: time.Duration(cmp.Or(v.Tolerance, DefaultTolerance)),
	}
	return scheme, scheme.compile(s)
}

func (v *Verify) signatureKeys(s sender, resolve resolver) (keys []key, err error) {
	_, err = v.keys(s, func(secret []byte) error {
		key, err := newKey(s.algorithm, secret)
		keys = append(keys, key)
		return err
	}, resolve)
	return keys, err
}

// compile compiles the templates of the sender's row that the scheme needs.
func (s *scheme) compile(row sender) (err error) {
	if row.url != "" {
		if s.url, err = template.Compile(row.url); err != nil {
			return fmt.Errorf("url %w", err)
		}
	}
	if row.alternative != "" {
		id, err := compileOptional("id", "", row.id)
		s.id = &id
		return err
	}
	return nil
}
