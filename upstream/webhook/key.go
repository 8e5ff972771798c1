package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
)

// key checks signatures. It is safe for concurrent use.
type key interface {
	// signed reports whether one of the signatures is the message's, which comes
	// in parts. It takes as long for a wrong signature as for a right one.
	signed(message, signatures [][]byte) bool
}

// newKey returns the key of a decoded secret. Its errors don't repeat the secret.
func newKey(algorithm string, secret []byte) (key, error) {
	switch algorithm {
	case "ecdsa":
		public, err := x509.ParsePKIXPublicKey(secret)
		if err != nil {
			return nil, errors.New("it is not a public key")
		}
		if key, ok := public.(*ecdsa.PublicKey); ok {
			return (*ecdsaKey)(key), nil
		}
		return nil, errors.New("it is not a public key for ECDSA")
	case "ed25519":
		if len(secret) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("it has %d bytes, not the %d of an Ed25519 public key", len(secret), ed25519.PublicKeySize)
		}
		return ed25519Key(secret), nil
	}
	return &hmacKey{hashes[algorithm], secret}, nil
}

var hashes = map[string]func() hash.Hash{
	"sha1":   sha1.New,
	"sha256": sha256.New,
	"sha384": sha512.New384,
	"sha512": sha512.New,
}

// hmacKey is a secret that the sender shares (RFC 2104).
type hmacKey struct {
	newHash func() hash.Hash
	secret  []byte
}

func (k *hmacKey) signed(message, signatures [][]byte) bool {
	want := k.sign(message...)
	matched := false
	for _, signature := range signatures { // without stopping at a match
		if hmac.Equal(signature, want) {
			matched = true
		}
	}
	return matched
}

func (k *hmacKey) sign(message ...[]byte) []byte {
	mac := hmac.New(k.newHash, k.secret)
	for _, part := range message {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// ecdsaKey checks ASN.1 signatures over a SHA-256.
type ecdsaKey ecdsa.PublicKey

func (k *ecdsaKey) signed(message, signatures [][]byte) bool {
	digest := sha256.New()
	for _, part := range message {
		digest.Write(part)
	}
	sum := digest.Sum(nil)
	for _, signature := range signatures {
		if ecdsa.VerifyASN1((*ecdsa.PublicKey)(k), sum, signature) {
			return true
		}
	}
	return false
}

type ed25519Key ed25519.PublicKey

func (k ed25519Key) signed(message, signatures [][]byte) bool {
	whole := bytes.Join(message, nil)
	for _, signature := range signatures {
		if len(signature) == ed25519.SignatureSize && ed25519.Verify(ed25519.PublicKey(k), whole, signature) {
			return true
		}
	}
	return false
}
