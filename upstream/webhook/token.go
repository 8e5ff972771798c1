package webhook

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// secrets are the digests of secret texts. A comparison takes the same time
// whatever the content and the length of a secret.
type secrets [][sha256.Size]byte

func newSecrets(texts [][]byte) (s secrets) {
	for _, text := range texts {
		s = append(s, sha256.Sum256(text))
	}
	return s
}

// have reports whether the text is one of the secrets. It compares all.
func (s secrets) have(text string) bool {
	sum := sha256.Sum256([]byte(text))
	matched := 0
	for _, secret := range s {
		matched |= subtle.ConstantTimeCompare(sum[:], secret[:])
	}
	return matched == 1
}

// token is a checker that wants a secret in a header.
type token struct {
	secrets        secrets
	header, prefix string
}

func (*token) headersOnly() {}

func (t *token) check(r *request) *refusal.Error {
	value, refused := single(r.Header, t.header, "header")
	if refused != nil {
		return refused
	}
	text, ok := cutPrefixFold(value, t.prefix)
	if !t.secrets.have(text) || !ok {
		detail := fmt.Sprintf("header %s holds none of %s", t.header, some(len(t.secrets), "secret"))
		if !ok {
			detail = fmt.Sprintf("header %s doesn't begin with %q", t.header, t.prefix)
		}
		return detailed(unauthorized("the token is wrong"), detail)
	}
	return nil
}

// cutPrefixFold ignores case: Bearer is bearer (RFC 9110 §11.1).
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// clientState is a checker that wants a secret in each notification of the body.
type clientState struct{ secrets secrets }

func (c *clientState) check(r *request) *refusal.Error {
	wrong := unauthorized("a notification's clientState is wrong or missing")
	body := bytes.TrimPrefix(r.raw, []byte(byteOrderMark))
	if !json.Valid(body) {
		return wrong
	}
	notifications := gjson.GetBytes(body, "value").Array()
	valid := len(notifications) > 0
	for _, n := range notifications {
		state := n.Get("clientState")
		valid = c.secrets.have(state.String()) && state.Type == gjson.String && valid
	}
	if !valid {
		return wrong
	}
	return nil
}
