package access

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// key is one that tokens are signed with: a secret ([]byte) or a public key.
type key struct {
	id     string // what a token's kid names it by; empty: nothing does
	alg    string // the only algorithm that it is for; empty: all of its kind
	verify any
}

// supportedAlgorithms are those that are taken, RFC 7518 and RFC 8037. "none" isn't one.
var supportedAlgorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// fits tells whether a token of this algorithm may be checked with the key. What
// a key is for follows from its kind and never from the token: a public key is
// no secret that an HMAC could be made with.
func (k key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch v := k.verify.(type) {
	case []byte:
		return strings.HasPrefix(alg, "HS")
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == curveAlgorithms[v.Curve.Params().Name]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	default:
		return false
	}
}

// curveAlgorithms are the algorithms by the curve that each is for (RFC 7518 §3.4).
var curveAlgorithms = map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

// minSecretBytes is how many bytes a secret for HS256 must have (RFC 7518 §3.2).
const minSecretBytes = 32

// minRSABits is how many bits an RSA key must have (RFC 7518 §3.3).
const minRSABits = 2048

// checkPublicKey tells whether a public key can check tokens.
func checkPublicKey(public any) error {
	switch v := public.(type) {
	case *rsa.PublicKey:
		if v.N.BitLen() < minRSABits {
			return fmt.Errorf("an RSA key of %d bits is too short: it needs %d", v.N.BitLen(), minRSABits)
		}
		return nil
	case *ecdsa.PublicKey:
		if curveAlgorithms[v.Curve.Params().Name] == "" {
			return fmt.Errorf("the curve %s is for no algorithm: want P-256, P-384 or P-521", v.Curve.Params().Name)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	default:
		return fmt.Errorf("a key of type %T checks no token: want RSA, ECDSA or Ed25519", public)
	}
}

// readPEM reads the public keys of a file: PUBLIC KEY, RSA PUBLIC KEY and
// CERTIFICATE blocks, one or more.
func readPEM(file string) (keys []key, err error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := parsePublicKey(block)
		if err == nil {
			err = checkPublicKey(public)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key{verify: public})
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no PEM block: want a public key that begins with -----BEGIN PUBLIC KEY-----")
	}
	return keys, nil
}

func parsePublicKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("it holds a private key, which signs tokens: only the public one is needed to check them (`openssl pkey -pubout`)")
	}
	return nil, fmt.Errorf("it holds a block %q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
}
