package webhook

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

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
	timeField  string // the time's GJSON path in the body
	tolerance  time.Duration
	url        *template.Template
	spelledURL bool // the URL is signed with characters decoded, as HubSpot does
	id         *optionalTemplate
}

// maxSignatures limits the signatures in a header that the module tries: more
// than any sender has keys, and few enough for the slowest algorithm.
const maxSignatures = 20

var encodings = map[string]func(string) ([]byte, error){
	"hex":    hex.DecodeString,
	"base64": decodeBase64,
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

// bySize is a checker with schemes that differ in the algorithm. The size of the
// signature selects one; the first is the default.
type bySize []*scheme

func (b bySize) check(r *request) *refusal.Error {
	for _, s := range b {
		signature, err := s.decode(r.Header.Get(s.header))
		if hmac, ok := s.keys[0].(*hmacKey); ok && err == nil && len(signature) == hmac.newHash().Size() {
			return s.check(r)
		}
	}
	return b[0].check(r)
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
	if body := bytes.TrimPrefix(r.raw, []byte(byteOrderMark)); s.timeField != "" && json.Valid(body) {
		timestamp = gjson.GetBytes(body, s.timeField).String()
	}
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

// checkTime refuses a signature whose time is too far from now. It runs after
// the signature is verified, so that only the sender learns about the clock.
func (s *scheme) checkTime(timestamp string) *refusal.Error {
	if s.timestamp == "" && s.timePrefix == "" && s.timeField == "" {
		return nil
	}
	signed, ok := parseTime(timestamp)
	switch {
	case ok:
		return checkAge(signed, s.tolerance)
	case s.timeField != "":
		return unauthorized("the body's %s is not a time: unix seconds, milliseconds or RFC 3339", s.timeField)
	}
	return unauthorized("header %s is not a time: unix seconds, milliseconds or RFC 3339", cmp.Or(s.timestamp, s.header))
}

// parseTime parses unix seconds, unix milliseconds, which have three digits more,
// or a time of RFC 3339.
func parseTime(text string) (time.Time, bool) {
	number, err := strconv.ParseUint(text, 10, 48)
	switch {
	case err != nil:
		signed, err := time.Parse(time.RFC3339, text)
		return signed, err == nil
	case len(text) > 11:
		return time.UnixMilli(int64(number)), true
	}
	return time.Unix(int64(number), 0), true
}

// decodeBase64 decodes both alphabets of RFC 4648, with or without padding.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.DecodeString(text)
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
