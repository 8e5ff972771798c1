package webhook

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// verifier checks requests. The zero verifier has no key, and accepts nothing.
type verifier struct {
	open      bool
	keys      [][]byte
	newHash   func() hash.Hash
	decode    func(string) ([]byte, error)
	header    string
	prefix    string
	list      bool
	signed    []signedPart
	timestamp string
	tolerance time.Duration
}

// signedPart is a part of what is signed: the body, a header's value or, if it
// is neither, literal text.
type signedPart struct {
	body   bool
	header string
	text   string
}

// compileSigned compiles the template of what is signed. A Caddyfile turns
// {header.NAME} into {http.request.header.NAME} before it gets here.
func compileSigned(src, timestamp string) (signed []signedPart, err error) {
	t, err := template.Compile(src)
	if err != nil {
		return nil, fmt.Errorf("signed %w", err)
	}
	var hasBody, hasTime bool
	for _, p := range t.Parts() {
		compiled, err := compileSignedPart(p, timestamp)
		if err != nil {
			return nil, fmt.Errorf("signed `%s`: %w", src, err)
		}
		hasBody = hasBody || compiled.body
		hasTime = hasTime || compiled.header != "" && compiled.header == textproto.CanonicalMIMEHeaderKey(timestamp)
		signed = append(signed, compiled)
	}
	if !hasBody {
		return nil, fmt.Errorf("signed `%s`: {body} must be part of it", src)
	}
	if timestamp != "" && !hasTime {
		return nil, fmt.Errorf("signed `%s`: the timestamp must be part of it, or anyone could change it: write `signed {timestamp}.{body}`, or what the sender's manual says", src)
	}
	return signed, nil
}

func compileSignedPart(p template.Part, timestamp string) (signedPart, error) {
	if !p.Placeholder {
		return signedPart{text: p.Text}, nil
	}
	if p.Text == "body" {
		return signedPart{body: true}, nil
	}
	header, ok := strings.CutPrefix(strings.TrimPrefix(p.Text, "http.request."), "header.")
	if p.Text == "timestamp" {
		if header, ok = timestamp, true; timestamp == "" {
			return signedPart{}, errors.New("it has a {timestamp}, but nothing says which header holds it: add `timestamp X-Timestamp`")
		}
	}
	if !ok || header == "" {
		return signedPart{}, fmt.Errorf("unknown placeholder {%s}: want {body}, {timestamp} or {header.NAME}", p.Text)
	}
	return signedPart{header: textproto.CanonicalMIMEHeaderKey(header)}, nil
}

// check refuses a request that none of the keys has signed. Its reasons tell a
// wrong guess nothing.
func (v *verifier) check(header http.Header, body []byte) *refusal.Error {
	if v.open {
		return nil
	}
	signature := header.Get(v.header)
	if signature == "" {
		return unauthorized("signature header %s missing", v.header)
	}
	if refused := v.checkSignedHeaders(header); refused != nil {
		return refused
	}
	if !v.matches(v.signatures(signature), header, body) {
		return unauthorized("the signature is wrong")
	}
	return v.checkTime(header)
}

func unauthorized(format string, args ...any) *refusal.Error {
	return refusal.Newf(http.StatusUnauthorized, format, args...)
}

// checkSignedHeaders wants each header that is signed exactly once. With a
// second value beside it, another reader could take that one, which nobody has
// signed: an id, say, that makes an old delivery a new one.
func (v *verifier) checkSignedHeaders(header http.Header) *refusal.Error {
	for _, part := range v.signed {
		if part.header == "" {
			continue
		}
		switch values := header.Values(part.header); {
		case len(values) == 0 || values[0] == "":
			return unauthorized("header %s missing", part.header)
		case len(values) > 1:
			return unauthorized("header %s comes more than once", part.header)
		}
	}
	return nil
}

// signatures decodes what may be signatures in the header. What is malformed,
// or of another version, is none.
func (v *verifier) signatures(header string) (signatures [][]byte) {
	values := []string{header}
	if v.list {
		values = strings.Fields(header)
	}
	for _, value := range values {
		encoded, ok := strings.CutPrefix(value, v.prefix)
		if !ok {
			continue
		}
		if signature, err := v.decode(encoded); err == nil {
			signatures = append(signatures, signature)
		}
	}
	return signatures
}

// matches tries every key on every signature, and doesn't stop at a match.
func (v *verifier) matches(signatures [][]byte, header http.Header, body []byte) bool {
	matched := false
	for _, key := range v.keys {
		want := v.sign(key, header, body)
		for _, signature := range signatures {
			if hmac.Equal(signature, want) {
				matched = true
			}
		}
	}
	return matched
}

func (v *verifier) sign(key []byte, header http.Header, body []byte) []byte {
	mac := hmac.New(v.newHash, key)
	for _, part := range v.signed {
		switch {
		case part.body:
			mac.Write(body)
		case part.header != "":
			mac.Write([]byte(header.Get(part.header)))
		default:
			mac.Write([]byte(part.text))
		}
	}
	return mac.Sum(nil)
}

// checkTime refuses a signature whose time is too far from now. It comes after
// the signature, so that only who can sign learns about the clock.
func (v *verifier) checkTime(header http.Header) *refusal.Error {
	if v.timestamp == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(header.Get(v.timestamp), 10, 40)
	if err != nil {
		return unauthorized("header %s is not a time in unix seconds", v.timestamp)
	}
	age := time.Since(time.Unix(int64(seconds), 0))
	switch {
	case age > v.tolerance:
		return unauthorized("the signature's time is more than %v ago", v.tolerance)
	case age < -v.tolerance:
		return unauthorized("the signature's time is more than %v ahead", v.tolerance)
	}
	return nil
}
