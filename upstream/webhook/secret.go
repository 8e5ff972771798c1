package webhook

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// keyFormats are the values of the option key.
var keyFormats = map[string]func(secret string) ([]byte, error){
	"text": plainKey,
	"hex": func(secret string) ([]byte, error) {
		key, err := hex.DecodeString(secret)
		if err != nil {
			return nil, errors.New("it is not hex")
		}
		return key, nil
	},
	"base64": func(secret string) ([]byte, error) {
		key, err := decodeBase64(secret)
		if err != nil {
			return nil, errors.New("it is not Base64")
		}
		return key, nil
	},
	"whsec": standardKey,
}

// plainKey returns the bytes of the secret.
func plainKey(secret string) ([]byte, error) { return []byte(secret), nil }

// standardKey decodes a secret of Standard Webhooks: whsec_ and the key in
// Base64. Some services print the version of the signature before it. Its errors
// don't repeat the secret.
func standardKey(secret string) ([]byte, error) {
	secret = strings.TrimPrefix(secret, "v1,")
	if strings.HasPrefix(secret, "whpk_") || strings.HasPrefix(secret, "whsk_") {
		return nil, errors.New("it is for the asymmetric scheme (v1a), which is not supported; use the endpoint's whsec_ secret")
	}
	key, err := decodeBase64(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return nil, errors.New("it is not whsec_ and Base64")
	}
	return key, nil
}

// hexKey decodes a public key as Discord shows it.
func hexKey(secret string) ([]byte, error) {
	key, err := hex.DecodeString(secret)
	if err != nil {
		return nil, errors.New("it is not a public key in hex")
	}
	return key, nil
}

// base64Key decodes a public key as SendGrid shows it: Base64 of its DER, with
// or without the header and the footer of PEM.
func base64Key(secret string) ([]byte, error) {
	secret = strings.TrimPrefix(strings.TrimSpace(secret), "-----BEGIN PUBLIC KEY-----")
	secret = strings.TrimSuffix(secret, "-----END PUBLIC KEY-----")
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(secret), ""))
	if err != nil {
		return nil, errors.New("it is not a public key in Base64")
	}
	if _, err := x509.ParsePKIXPublicKey(der); err != nil && len(der) > 0 {
		return nil, errors.New("it is not a public key")
	}
	return der, nil
}
