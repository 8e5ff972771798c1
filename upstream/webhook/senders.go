package webhook

import (
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
)

// sender is how one kind of sender signs its requests, and what it says about
// a delivery. Unless it is open, its signature is an HMAC (RFC 2104).
type sender struct {
	// open: nothing is signed, anyone may send.
	open bool
	// custom: every option may be set; what stands here is their default.
	custom bool

	header    string // holds the signature
	algorithm string
	encoding  string
	prefix    string // stands before the signature in its header
	list      bool   // the header may hold several, with spaces between them
	signed    string // template of what is signed
	timestamp string // the header that says when it was signed, in unix seconds

	key func(secret string) ([]byte, error)

	event string // templates of what an event is called and identified by,
	id    string // unless the rule says it
}

// senders are the kinds that `verify` knows. A new one is a new row.
var senders = map[string]sender{
	"none": {open: true},
	"hmac": {
		custom:    true,
		algorithm: "sha256",
		encoding:  "hex",
		signed:    "{body}",
		key:       plainKey,
	},
	// docs.github.com, "Validating webhook deliveries". Neither the event's
	// name nor the delivery's id is signed, and nothing says when it was.
	"github": {
		header:    "X-Hub-Signature-256",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "sha256=",
		signed:    "{body}",
		key:       plainKey,
		event:     "{http.request.header.X-GitHub-Event}",
		id:        "{http.request.header.X-GitHub-Delivery}",
	},
	// The Standard Webhooks specification 1.0.0, "Signature scheme". Of its
	// schemes this is the symmetric one, v1.
	"standard-webhooks": {
		header:    "Webhook-Signature",
		algorithm: "sha256",
		encoding:  "base64",
		prefix:    "v1,",
		list:      true,
		signed:    "{header.Webhook-Id}.{timestamp}.{body}",
		timestamp: "Webhook-Timestamp",
		key:       standardKey,
		event:     "{json.type}",
		id:        "{http.request.header.Webhook-Id}",
	},
}

// knownSenders lists the kinds for an error.
func knownSenders() string {
	return strings.Join(slices.Sorted(maps.Keys(senders)), ", ")
}

// plainKey takes a secret's bytes as the key.
func plainKey(secret string) ([]byte, error) { return []byte(secret), nil }

// standardKey decodes a secret of Standard Webhooks: whsec_ and the key in
// Base64. Its errors don't repeat the secret.
func standardKey(secret string) ([]byte, error) {
	if strings.HasPrefix(secret, "whpk_") || strings.HasPrefix(secret, "whsk_") {
		return nil, errors.New("it is for the asymmetric scheme (v1a), which is not supported; use the endpoint's whsec_ secret")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return nil, errors.New("it is not whsec_ and Base64")
	}
	return key, nil
}
