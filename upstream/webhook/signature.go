package webhook

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// scheme is a checker that wants a signature in a header. Without a key it
// accepts nothing.
type scheme struct {
	keys       []key
	decode     func(string) ([]byte, error)
	encoding   string // decode's name
	header     string
	prefix     string
	separator  string
	signed     []signedPart
	timestamp  string
	timePrefix string
	tolerance  time.Duration
	url        *template.Template
	id         *optionalTemplate
}

// maxSignatures limits the signatures in a header that the module tries: more
// than any sender has keys, and few enough for the slowest algorithm.
const maxSignatures = 20

var encodings = map[string]func(string) ([]byte, error){
	"hex":    hex.DecodeString,
	"base64": base64.StdEncoding.DecodeString,
}

// partKind is a kind of part of a signed message.
type partKind int

const (
	literalPart partKind = iota
	bodyPart
	headerPart
	timePart    // the time in the header of the signature
	urlPart     // the URL that the sender has called
	paramsPart  // a form's fields as Twilio signs them
	payloadPart // the body, or the JSON in the only field of a form
)

// signedPart is one part of a signed message. Its text is the name of a header
// or the text of a literal.
type signedPart struct {
	kind partKind
	text string
}

// compileSigned compiles the template of the signed message. A Caddyfile turns
// {header.NAME} into {http.request.header.NAME} before.
func (s sender) compileSigned() (signed []signedPart, err error) {
	t, err := template.Compile(s.signed)
	if err != nil {
		return nil, fmt.Errorf("signed %w", err)
	}
	var hasBody, hasTime bool
	for _, p := range t.Parts() {
		compiled, err := s.compileSignedPart(p)
		if err != nil {
			return nil, fmt.Errorf("signed `%s`: %w", s.signed, err)
		}
		hasBody = hasBody || compiled.kind == bodyPart || compiled.kind == paramsPart || compiled.kind == payloadPart
		hasTime = hasTime || compiled.kind == timePart ||
			compiled.kind == headerPart && compiled.text == textproto.CanonicalMIMEHeaderKey(s.timestamp)
		signed = append(signed, compiled)
	}
	if !hasBody {
		return nil, fmt.Errorf("signed `%s`: {body} must be part of it", s.signed)
	}
	if s.timestamp != "" && !hasTime {
		return nil, fmt.Errorf("signed `%s`: the timestamp must be part of it, or anyone could change it: write `signed {timestamp}.{body}`, or what the sender's manual says", s.signed)
	}
	return signed, nil
}

func (s sender) compileSignedPart(p template.Part) (signedPart, error) {
	if !p.Placeholder {
		return signedPart{literalPart, p.Text}, nil
	}
	switch {
	case p.Text == "body":
		return signedPart{kind: bodyPart}, nil
	case p.Text == "payload" && s.jsonInForm:
		return signedPart{kind: payloadPart}, nil
	case p.Text == "timestamp" && s.timePrefix != "":
		return signedPart{kind: timePart}, nil
	case p.Text == "timestamp" && s.timestamp == "":
		return signedPart{}, errors.New("it has a {timestamp}, but no option names the header that holds it: add `timestamp X-Timestamp`")
	case p.Text == "timestamp":
		return signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(s.timestamp)}, nil
	case p.Text == "url" && s.url != "":
		return signedPart{kind: urlPart}, nil
	case p.Text == "params" && s.url != "":
		return signedPart{kind: paramsPart}, nil
	}
	header, ok := strings.CutPrefix(strings.TrimPrefix(p.Text, "http.request."), "header.")
	if !ok || header == "" {
		return signedPart{}, fmt.Errorf("unknown placeholder {%s}: want {body}, {timestamp} or {header.NAME}", p.Text)
	}
	return signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(header)}, nil
}

// eitherHeaders is a checker with schemes that differ in the names of their
// headers. It refuses requests with headers of two schemes: only one of them is
// signed, and another reader could take the ID from the other.
type eitherHeaders []*scheme

func (e eitherHeaders) check(r *request) *refusal.Error {
	found := -1
	for i, s := range e {
		switch {
		case !s.hasHeader(r.Header):
		case found >= 0:
			return unauthorized("headers of two kinds: %s and %s", e[found].header, s.header)
		default:
			found = i
		}
	}
	return e[max(found, 0)].check(r)
}

// hasHeader reports whether any of the scheme's headers is there.
func (s *scheme) hasHeader(header http.Header) bool {
	return len(header.Values(s.header)) > 0 || slices.ContainsFunc(s.signed, func(p signedPart) bool {
		return p.kind == headerPart && len(header.Values(p.text)) > 0
	})
}

// signsHeader reports whether the signature covers a header.
func (s *scheme) signsHeader(name string) bool {
	return slices.Contains(s.signed, signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(name)})
}

// anyAlgorithm is a checker with schemes that differ in the algorithm. The
// prefix of the signature selects one; the first is the default.
type anyAlgorithm []*scheme

func (a anyAlgorithm) check(r *request) *refusal.Error {
	for _, s := range a {
		if strings.HasPrefix(r.Header.Get(s.header), s.prefix) {
			return s.check(r)
		}
	}
	return a[0].check(r)
}

// check refuses a request that none of the keys has signed. Its reasons don't
// help an attacker to guess.
func (s *scheme) check(r *request) *refusal.Error {
	header, refused := single(r.Header, s.header, "signature header")
	if refused != nil {
		return refused
	}
	if refused := s.checkSignedHeaders(r.Header); refused != nil {
		return refused
	}
	signatures, timestamp := s.parse(header)
	if s.timestamp != "" {
		timestamp = r.Header.Get(s.timestamp)
	}
	key := s.signingKey(r, timestamp, signatures)
	if key == nil {
		return wrongSignature(s.mismatch(len(signatures)))
	}
	r.key, r.scheme = key, s
	return s.checkTime(timestamp)
}

// mismatch tells the operator whether the secret is wrong or the header isn't
// the sender's.
func (s *scheme) mismatch(signatures int) string {
	if signatures == 0 {
		form := "in " + s.encoding
		if s.prefix != "" {
			form = fmt.Sprintf("that begins with %q, %s", s.prefix, form)
		}
		return fmt.Sprintf("header %s holds no signature %s", s.header, form)
	}
	return fmt.Sprintf("none of %s fits the %s in header %s: another secret, or a body that was changed on the way",
		some(len(s.keys), "secret"), some(signatures, "signature"), s.header)
}

// some counts things in words that fit a sentence.
func some(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func unauthorized(format string, args ...any) *refusal.Error {
	refused := refusal.Newf(http.StatusUnauthorized, format, args...)
	refused.Kind = string(BadSignature)
	return refused
}

// detailed adds a detail that the operator sees and the sender doesn't.
func detailed(refused *refusal.Error, detail string) *refusal.Error {
	refused.Detail = detail
	return refused
}

func wrongSignature(detail string) *refusal.Error {
	return detailed(unauthorized("the signature is wrong"), detail)
}

// single returns the only value of a header. It refuses a second value: another
// reader could take that one, and nothing has verified it.
func single(header http.Header, name, what string) (string, *refusal.Error) {
	switch values := header.Values(name); {
	case len(values) == 0 || values[0] == "":
		return "", unauthorized("%s %s missing", what, name)
	case len(values) > 1:
		return "", unauthorized("%s %s comes more than once", what, name)
	default:
		return values[0], nil
	}
}

// checkSignedHeaders wants each signed header exactly once: a second value could
// be an ID, for example, that makes an old delivery a new one.
func (s *scheme) checkSignedHeaders(header http.Header) *refusal.Error {
	for _, p := range s.signed {
		if p.kind != headerPart {
			continue
		}
		if _, refused := single(header, p.text, "header"); refused != nil {
			return refused
		}
	}
	return nil
}

// parse decodes the signatures and the time in a header. It skips malformed
// signatures and those of other versions. A header with two times has none.
func (s *scheme) parse(header string) (signatures [][]byte, timestamp string) {
	values := []string{header}
	switch s.separator {
	case "":
	case " ":
		values = strings.Fields(header)
	default:
		values = strings.Split(header, s.separator)
	}
	times := 0
	for _, value := range values {
		if s.separator != "" {
			value = strings.TrimSpace(value)
		}
		if t, ok := strings.CutPrefix(value, s.timePrefix); ok && s.timePrefix != "" {
			timestamp = t
			times++
		}
		encoded, ok := strings.CutPrefix(value, s.prefix)
		if !ok || len(signatures) == maxSignatures {
			continue
		}
		if signature, err := s.decode(encoded); err == nil {
			signatures = append(signatures, signature)
		}
	}
	if times > 1 {
		timestamp = ""
	}
	return signatures, timestamp
}

// signingKey returns the key that has signed the request, or nil. It tries every
// key.
func (s *scheme) signingKey(r *request, timestamp string, signatures [][]byte) (signing key) {
	for _, message := range s.messages(r, timestamp) {
		for _, key := range s.keys {
			if key.signed(message, signatures) {
				signing = key
			}
		}
	}
	return signing
}

// messages returns the messages that the sender may have signed, each in parts.
// There are several only if the signature covers the URL, which has several
// spellings.
func (s *scheme) messages(r *request, timestamp string) (messages [][][]byte) {
	for _, url := range s.urls(r) {
		message := make([][]byte, 0, len(s.signed))
		for _, p := range s.signed {
			switch p.kind {
			case bodyPart:
				message = append(message, r.raw)
			case headerPart:
				message = append(message, []byte(r.Header.Get(p.text)))
			case timePart:
				message = append(message, []byte(timestamp))
			case urlPart:
				message = append(message, []byte(url))
			case paramsPart:
				params, ok := twilioParams(r, url)
				if !ok {
					return nil
				}
				message = append(message, params)
			case payloadPart:
				payload, ok := payloadOf(newContent(r.raw, r.media))
				if !ok {
					payload = string(r.raw)
				}
				message = append(message, []byte(payload))
			default:
				message = append(message, []byte(p.text))
			}
		}
		messages = append(messages, message)
	}
	return messages
}

// checkTime refuses a signature whose time is too far from now. It runs after
// the signature is verified, so that only the sender learns about the clock.
func (s *scheme) checkTime(timestamp string) *refusal.Error {
	if s.timestamp == "" && s.timePrefix == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(timestamp, 10, 40)
	if err != nil {
		return unauthorized("header %s is not a time in unix seconds", cmp.Or(s.timestamp, s.header))
	}
	return checkAge(time.Unix(int64(seconds), 0), s.tolerance)
}

func checkAge(signed time.Time, tolerance time.Duration) *refusal.Error {
	age := time.Since(signed)
	var refused *refusal.Error
	switch {
	case age > tolerance:
		refused = unauthorized("the signature's time is more than %v ago", tolerance)
		refused.Detail = fmt.Sprintf("signed %v ago; the tolerance is %v: sent again, or a clock is slow or fast", age.Round(time.Second), tolerance)
	case age < -tolerance:
		refused = unauthorized("the signature's time is more than %v ahead", tolerance)
		refused.Detail = fmt.Sprintf("signed %v from now; the tolerance is %v: a clock is slow or fast", (-age).Round(time.Second), tolerance)
	default:
		return nil
	}
	refused.Kind = string(StaleTimestamp)
	return refused
}
