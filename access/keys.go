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

// key verifies tokens.
type key struct {
	id     string // matches a token's kid; empty: no token names the key
	alg    string // the key's only algorithm; empty: all of its kind
	verify any    // a secret ([]byte) or a public key
}

// supportedAlgorithms are those of RFC 7518 and RFC 8037 except "none".
var supportedAlgorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// fits reports whether the key may verify tokens of an algorithm. The key's kind
// decides, never the token: otherwise a public key could serve as the secret of
// an HMAC.
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

// curveAlgorithms maps curves to their algorithms (RFC 7518 §3.4).
var curveAlgorithms = map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

// minSecretBytes is how many bytes a secret for HS256 must have (RFC 7518 §3.2).
const minSecretBytes = 32

// minRSABits is how many bits an RSA key must have (RFC 7518 §3.3).
const minRSABits = 2048

// checkPublicKey returns an error if a public key can't verify tokens.
func checkPublicKey(public any) error {
	switch v := public.(type) {
	case *rsa.PublicKey:
		if v.N.BitLen() < minRSABits {
			return fmt.Errorf("an RSA key of %d bits is too short: it needs %d", v.N.BitLen(), minRSABits)
		}
		return nil
	case *ecdsa.PublicKey:
		if curveAlgorithms[v.Curve.Params().Name] == "" {
			return fmt.Errorf("the curve %s has no algorithm: want P-256, P-384 or P-521", v.Curve.Params().Name)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	default:
		return fmt.Errorf("a key of type %T can't verify tokens: want RSA, ECDSA or Ed25519", public)
	}
}

// readPEM returns the public keys of a file. It must have at least one block, each
// a PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE.
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
		return nil, errors.New("the file has no PEM block: want a public key that begins with -----BEGIN PUBLIC KEY-----")
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
		return nil, errors.New("the file has a private key, which signs tokens: only the public one is needed to verify them (`openssl pkey -pubout`)")
	}
	return nil, fmt.Errorf("the file has a block %q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE", block.Type)
}
