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

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// received is a request as it came: nothing in it is proven yet.
type received struct {
	*http.Request
	repl *caddy.Replacer
	body []byte
}

// checker refuses a request that doesn't come from the sender.
type checker interface {
	check(d *received) (*proven, *refusal.Error)
}

// headerChecker is one that needs no body: it is asked before that is read, so
// that what isn't the sender's is kept by nobody.
type headerChecker interface {
	checker
	headersOnly()
}

// proven is what a checker has found out.
type proven struct {
	// key is the one that the request was signed with, if it was.
	key key
	// id is what the sender's headers identify a delivery by, if it depends on
	// which of them were signed.
	id *mapping
}

// anyone is the checker of a rule that verifies nothing.
type anyone struct{}

func (anyone) check(*received) (*proven, *refusal.Error) { return new(proven), nil }

// scheme checks signatures in a header. Without a key it accepts nothing.
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
	id         *mapping
}

// maxSignatures is how many signatures of a header are looked at: more than
// anyone has keys, and few enough for the slowest kind.
const maxSignatures = 20

var encodings = map[string]func(string) ([]byte, error){
	"hex":    hex.DecodeString,
	"base64": base64.StdEncoding.DecodeString,
}

// part is a kind of what is signed.
type part int

const (
	literalPart part = iota
	bodyPart
	headerPart
	timePart   // the time in the signature's own header
	urlPart    // the URL that the sender has called
	paramsPart // a form's fields, in Twilio's way
)

// signedPart is a part of what is signed. Its text is the header's name or, of
// a literal, what it says.
type signedPart struct {
	part part
	text string
}

// compileSigned compiles the template of what is signed. A Caddyfile turns
// {header.NAME} into {http.request.header.NAME} before it gets here.
func (kind sender) compileSigned() (signed []signedPart, err error) {
	src := kind.signed
	t, err := template.Compile(src)
	if err != nil {
		return nil, fmt.Errorf("signed %w", err)
	}
	var hasBody, hasTime bool
	for _, p := range t.Parts() {
		compiled, err := kind.compileSignedPart(p)
		if err != nil {
			return nil, fmt.Errorf("signed `%s`: %w", src, err)
		}
		hasBody = hasBody || compiled.part == bodyPart || compiled.part == paramsPart
		hasTime = hasTime || compiled.part == timePart ||
			compiled.part == headerPart && compiled.text == textproto.CanonicalMIMEHeaderKey(kind.timestamp)
		signed = append(signed, compiled)
	}
	if !hasBody {
		return nil, fmt.Errorf("signed `%s`: {body} must be part of it", src)
	}
	if kind.timestamp != "" && !hasTime {
		return nil, fmt.Errorf("signed `%s`: the timestamp must be part of it, or anyone could change it: write `signed {timestamp}.{body}`, or what the sender's manual says", src)
	}
	return signed, nil
}

func (kind sender) compileSignedPart(p template.Part) (signedPart, error) {
	if !p.Placeholder {
		return signedPart{literalPart, p.Text}, nil
	}
	switch {
	case p.Text == "body":
		return signedPart{part: bodyPart}, nil
	case p.Text == "timestamp" && kind.timePrefix != "":
		return signedPart{part: timePart}, nil
	case p.Text == "timestamp" && kind.timestamp == "":
		return signedPart{}, errors.New("it has a {timestamp}, but nothing says which header holds it: add `timestamp X-Timestamp`")
	case p.Text == "timestamp":
		return signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(kind.timestamp)}, nil
	case p.Text == "url" && kind.url != "":
		return signedPart{part: urlPart}, nil
	case p.Text == "params" && kind.url != "":
		return signedPart{part: paramsPart}, nil
	}
	header, ok := strings.CutPrefix(strings.TrimPrefix(p.Text, "http.request."), "header.")
	if !ok || header == "" {
		return signedPart{}, fmt.Errorf("unknown placeholder {%s}: want {body}, {timestamp} or {header.NAME}", p.Text)
	}
	return signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(header)}, nil
}

// families are schemes that differ in the names of their headers. A request has
// those of one: of the other's, which nobody has signed, another reader could
// take the id.
type families []*scheme

func (f families) check(d *received) (*proven, *refusal.Error) {
	found := -1
	for i, s := range f {
		switch {
		case !s.hasHeader(d.Header):
		case found >= 0:
			return nil, unauthorized("headers of two kinds: %s and %s", f[found].header, s.header)
		default:
			found = i
		}
	}
	return f[max(found, 0)].check(d)
}

// hasHeader tells whether any of the scheme's headers is there.
func (s *scheme) hasHeader(header http.Header) bool {
	return len(header.Values(s.header)) > 0 || slices.ContainsFunc(s.signed, func(p signedPart) bool {
		return p.part == headerPart && len(header.Values(p.text)) > 0
	})
}

// methods are schemes that differ in the algorithm, which stands before the
// signature. That of the first counts if there is none that we know.
type methods []*scheme

func (m methods) check(d *received) (*proven, *refusal.Error) {
	for _, s := range m {
		if strings.HasPrefix(d.Header.Get(s.header), s.prefix) {
			return s.check(d)
		}
	}
	return m[0].check(d)
}

// check refuses a request that none of the keys has signed. Its reasons tell a
// wrong guess nothing.
func (s *scheme) check(d *received) (*proven, *refusal.Error) {
	header, refused := single(d.Header, s.header, "signature header")
	if refused != nil {
		return nil, refused
	}
	if refused := s.checkSignedHeaders(d.Header); refused != nil {
		return nil, refused
	}
	signatures, timestamp := s.parse(header)
	if s.timestamp != "" {
		timestamp = d.Header.Get(s.timestamp)
	}
	key := s.signer(d, timestamp, signatures)
	if key == nil {
		return nil, wrongSignature(s.whyWrong(len(signatures)))
	}
	return &proven{key, s.id}, s.checkTime(timestamp)
}

// whyWrong is for the operator: it tells a secret that doesn't fit from a
// header that isn't of the sender's kind.
func (s *scheme) whyWrong(signatures int) string {
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

// detailed says more to the operator than to the sender.
func detailed(refused *refusal.Error, detail string) *refusal.Error {
	refused.Detail = detail
	return refused
}

func wrongSignature(detail string) *refusal.Error {
	return detailed(unauthorized("the signature is wrong"), detail)
}

// single wants a header exactly once. With a second value beside it, another
// reader could take that one, which nobody has vouched for.
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

// checkSignedHeaders wants each header that is signed exactly once: a second
// value might be an id, say, that makes an old delivery a new one.
func (s *scheme) checkSignedHeaders(header http.Header) *refusal.Error {
	for _, p := range s.signed {
		if p.part != headerPart {
			continue
		}
		if _, refused := single(header, p.text, "header"); refused != nil {
			return refused
		}
	}
	return nil
}

// parse decodes what may be signatures in the header. What is malformed, or of
// another version, is none. Two times are as good as no time.
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

// signer is the key that has signed the request, or nil. It tries every key.
func (s *scheme) signer(d *received, timestamp string, signatures [][]byte) (signer key) {
	for _, message := range s.messages(d, timestamp) {
		for _, key := range s.keys {
			if key.signed(message, signatures) {
				signer = key
			}
		}
	}
	return signer
}

// messages are what may have been signed, in parts: there are several only
// where the URL is signed, which the sender may have written in several ways.
func (s *scheme) messages(d *received, timestamp string) (messages [][][]byte) {
	for _, url := range s.urls(d) {
		message := make([][]byte, 0, len(s.signed))
		for _, p := range s.signed {
			switch p.part {
			case bodyPart:
				message = append(message, d.body)
			case headerPart:
				message = append(message, []byte(d.Header.Get(p.text)))
			case timePart:
				message = append(message, []byte(timestamp))
			case urlPart:
				message = append(message, []byte(url))
			case paramsPart:
				params, ok := twilioParams(d, url)
				if !ok {
					return nil
				}
				message = append(message, params)
			default:
				message = append(message, []byte(p.text))
			}
		}
		messages = append(messages, message)
	}
	return messages
}

// checkTime refuses a signature whose time is too far from now. It comes after
// the signature, so that only who can sign learns about the clock.
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
