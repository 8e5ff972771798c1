package webhook

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// sender is how one kind of sender proves who it is, what it says about a
// delivery, and what it wants to hear.
type sender struct {
	// proof is how it proves it; if nothing stands here, by a signature.
	proof proof
	// options are those of verify's block that a rule may set, beside the
	// tolerance, which goes with every timestamp. What stands in the row is
	// their default.
	options []string

	header     string // holds the signature or the token
	algorithm  string
	encoding   string
	prefix     string   // stands before the signature in its header
	methods    []string // or the algorithm does, and an equals sign; the header's choice
	separator  string   // the header may hold several signatures, with this between them
	signed     string   // template of what is signed
	timestamp  string   // the header that says when it was signed, in unix seconds
	timePrefix string   // or what stands before that in the signature's own header
	url        string   // template of the URL that is signed
	other      string   // the sender whose headers may come in the place of these

	// key decodes a secret.
	key func(secret string) ([]byte, error)

	topic string // templates of a second topic beside the request's path,
	event string // of what an event is called
	id    string // and identified by, unless the rule says it
	split string // the jq program that takes a body apart

	// cloudEvents: what the request's headers say of it as a CloudEvent is
	// believed. Of who signs the body it isn't: anyone on the way could add
	// headers that lead a delivery to another topic.
	cloudEvents bool
	// object: only a body that is a JSON object can be its own.
	object bool
	// secrets are members of the body, however deep, that give a right to who
	// knows them. Nothing that is published is made of them.
	secrets []string
	// status is what it takes for success; zero: any 2xx.
	status int
	// noBody: it makes something of what an answer says.
	noBody bool

	asks   handshake // answered without a signature, since the sender has none
	greets handshake // answered after the signature is right
}

// proof is a way to prove who sends.
type proof int

const (
	bySignature   proof = iota
	byNothing           // anyone may send
	byToken             // a header holds the secret itself
	byPassword          // HTTP Basic
	byClientState       // each notification in the body holds the secret
	bySNS               // a signature in the body, with a certificate
)

// eachOfList takes a JSON array apart, and lets all else be one event.
const eachOfList = `if type == "array" then .[] else . end`

// senders are the kinds that `verify` knows. A new one is a new row.
var senders = map[string]sender{
	"none": {proof: byNothing, cloudEvents: true},
	"hmac": {
		options:   []string{"header", "algorithm", "encoding", "prefix", "signed", "timestamp"},
		algorithm: "sha256",
		encoding:  "hex",
		signed:    "{body}",
		key:       plainKey,
	},
	"token": {proof: byToken, options: []string{"header", "prefix"}, key: plainKey, cloudEvents: true},
	"basic": {proof: byPassword, options: []string{"user"}, cloudEvents: true},
	// docs.github.com, "Validating webhook deliveries". Neither the event's
	// name nor the delivery's id is signed, and nothing says when it was.
	"github": {
		header:    "X-Hub-Signature-256",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "sha256=",
		signed:    "{body}",
		key:       plainKey,
		topic:     "github/{json.repository.full_name}",
		event:     "{http.request.header.X-GitHub-Event}",
		id:        "{http.request.header.X-GitHub-Delivery}",
	},
	// docs.gitlab.com, "Webhooks": the secret token comes as it is, and the
	// idempotency key stays the same when a delivery is tried again.
	"gitlab": {
		proof:  byToken,
		header: "X-Gitlab-Token",
		key:    plainKey,
		topic:  "gitlab/{json.project.path_with_namespace}",
		event:  "{json.object_kind}",
		id:     "{http.request.header.Idempotency-Key}",
	},
	// docs.gitea.com, "Webhooks". Forgejo sends the same headers.
	"gitea": {
		header:    "X-Gitea-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		signed:    "{body}",
		key:       plainKey,
		topic:     "gitea/{json.repository.full_name}",
		event:     "{http.request.header.X-Gitea-Event}",
		id:        "{http.request.header.X-Gitea-Delivery}",
	},
	// support.atlassian.com, "Manage webhooks" (Bitbucket Cloud).
	"bitbucket": {
		header:    "X-Hub-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "sha256=",
		signed:    "{body}",
		key:       plainKey,
		topic:     "bitbucket/{json.repository.full_name}",
		event:     "{http.request.header.X-Event-Key}",
		id:        "{http.request.header.X-Request-UUID}",
	},
	// docs.stripe.com, "Verify webhook signatures manually". The header also
	// has v0 signatures, which are of test events and never count.
	"stripe": {
		header:     "Stripe-Signature",
		algorithm:  "sha256",
		encoding:   "hex",
		prefix:     "v1=",
		separator:  ",",
		timePrefix: "t=",
		signed:     "{timestamp}.{body}",
		key:        plainKey,
		event:      "{json.type}",
		id:         "{json.id}",
	},
	// docs.slack.dev, "Verifying requests from Slack".
	"slack": {
		header:    "X-Slack-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "v0=",
		timestamp: "X-Slack-Request-Timestamp",
		signed:    "v0:{timestamp}:{body}",
		key:       plainKey,
		event:     "{json.event.type}",
		id:        "{json.event_id}",
		status:    http.StatusOK,
		noBody:    true,
		secrets:   []string{"token", "bot_access_token", "response_url", "response_urls"},
		greets:    slackVerification,
	},
	// shopify.dev, "Verify webhook deliveries" and "Ignore duplicates". The
	// headers are not signed. What a merchant does may be an event on several
	// of its topics, under one id.
	"shopify": {
		header:    "X-Shopify-Hmac-Sha256",
		algorithm: "sha256",
		encoding:  "base64",
		signed:    "{body}",
		key:       plainKey,
		event:     "{http.request.header.X-Shopify-Topic}",
		id:        "{http.request.header.X-Shopify-Topic} {http.request.header.X-Shopify-Event-Id}",
	},
	// twilio.com/docs, "Webhooks security". It expects an answer in TwiML or
	// none at all.
	"twilio": {
		options:   []string{"url"},
		header:    "X-Twilio-Signature",
		algorithm: "sha1",
		encoding:  "base64",
		signed:    "{url}{params}",
		url:       "{http.request.scheme}://{http.request.hostport}{http.request.orig_uri}",
		key:       plainKey,
		id:        "{http.request.header.I-Twilio-Idempotency-Token}",
		status:    http.StatusNoContent,
	},
	// twilio.com/docs/sendgrid, "Event Webhook security features".
	"sendgrid": {
		header:    "X-Twilio-Email-Event-Webhook-Signature",
		algorithm: "ecdsa",
		encoding:  "base64",
		timestamp: "X-Twilio-Email-Event-Webhook-Timestamp",
		signed:    "{timestamp}{body}",
		key:       base64Key,
		event:     "{json.event}",
		id:        "{json.sg_event_id}",
		split:     eachOfList,
	},
	// developer.paddle.com, "Verify webhook signatures".
	"paddle": {
		header:     "Paddle-Signature",
		algorithm:  "sha256",
		encoding:   "hex",
		prefix:     "h1=",
		separator:  ";",
		timePrefix: "ts=",
		signed:     "{timestamp}:{body}",
		key:        plainKey,
		event:      "{json.event_type}",
		id:         "{json.event_id}",
		status:     http.StatusOK,
	},
	// docs.discord.com, "Webhook Events" and "Interactions". It tries now and
	// then whether wrong signatures are refused with 401.
	"discord": {
		header:    "X-Signature-Ed25519",
		algorithm: "ed25519",
		encoding:  "hex",
		timestamp: "X-Signature-Timestamp",
		signed:    "{timestamp}{body}",
		key:       hexKey,
		event:     "{json.event.type}",
		status:    http.StatusNoContent,
		greets:    discordPing,
	},
	// developers.facebook.com, "Webhooks: Getting started".
	"meta": {
		options:   []string{"challenge"},
		header:    "X-Hub-Signature-256",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "sha256=",
		signed:    "{body}",
		key:       plainKey,
		event:     "{json.object}",
		status:    http.StatusOK,
		asks:      metaChallenge,
	},
	// W3C WebSub, "Authenticated Content Distribution". The signature says by
	// which method it is made; YouTube's hub still uses SHA-1, which as an HMAC
	// nobody can forge.
	"websub": {
		options:   []string{"challenge"},
		header:    "X-Hub-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		methods:   []string{"sha256", "sha1", "sha384", "sha512"},
		signed:    "{body}",
		key:       plainKey,
		asks:      websubChallenge,
	},
	// The Standard Webhooks specification 1.0.0, "Signature scheme". Of its
	// schemes this is the symmetric one, v1.
	"standard-webhooks": standardWebhooks("Webhook", "svix"),
	// docs.svix.com, "Verifying webhooks manually": the same under the older
	// names of the headers.
	"svix": standardWebhooks("Svix", "standard-webhooks"),
	// The CloudEvents "HTTP 1.1 Web Hooks" specification, which leaves the
	// proof to a bearer token (RFC 6750).
	"cloudevents": {
		proof:       byToken,
		options:     []string{"challenge"},
		header:      "Authorization",
		prefix:      "Bearer ",
		key:         plainKey,
		event:       "{json.type}",
		id:          "{json.source} {json.id}",
		cloudEvents: true,
		asks:        cloudEventsOrigin,
	},
	// docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS
	// messages". In the place of secrets are the topics' names (ARN): anyone
	// can have SNS sign for a topic of their own.
	"sns": {
		proof:   bySNS,
		options: []string{"hosts", "tolerance"},
		key:     plainKey,
		id:      "{json.MessageId}",
		secrets: []string{"UnsubscribeURL", "SubscribeURL", "Token", "Signature", "SigningCertURL"},
		greets:  snsConfirmation,
	},
	// developers.zoom.us, "Using webhooks".
	"zoom": {
		header:    "X-Zm-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "v0=",
		timestamp: "X-Zm-Request-Timestamp",
		signed:    "v0:{timestamp}:{body}",
		key:       plainKey,
		event:     "{json.event}",
		status:    http.StatusOK,
		greets:    zoomValidation,
	},
	// learn.microsoft.com/graph, "Receive change notifications through
	// webhooks".
	"microsoft-graph": {
		proof:   byClientState,
		key:     plainKey,
		event:   "{json.changeType}",
		split:   ".value[]",
		secrets: []string{"clientState"},
		asks:    graphValidation,
	},
	// docs.x.com, "Securing webhooks". Its handshake signs what anyone asks
	// it to, with the key that signs bodies, so that a body which could have
	// been asked for proves nothing: see [xCRC].
	"x": {
		header:    "X-Twitter-Webhooks-Signature",
		algorithm: "sha256",
		encoding:  "base64",
		prefix:    "sha256=",
		signed:    "{body}",
		key:       plainKey,
		object:    true,
		status:    http.StatusOK,
		asks:      xCRC,
	},
}

func standardWebhooks(family, other string) sender {
	return sender{
		header:    family + "-Signature",
		algorithm: "sha256",
		encoding:  "base64",
		prefix:    "v1,",
		separator: " ",
		signed:    "{header." + family + "-Id}.{timestamp}.{body}",
		timestamp: family + "-Timestamp",
		other:     other,
		key:       standardKey,
		event:     "{json.type}",
		id:        "{http.request.header." + family + "-Id}",
	}
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

// hexKey decodes a public key as Discord shows it.
func hexKey(secret string) ([]byte, error) {
	key, err := hex.DecodeString(secret)
	if err != nil {
		return nil, errors.New("it is no public key in hex")
	}
	return key, nil
}

// base64Key decodes a public key as SendGrid shows it: Base64 of its DER, with
// or without the lines of PEM around it.
func base64Key(secret string) ([]byte, error) {
	secret = strings.TrimPrefix(strings.TrimSpace(secret), "-----BEGIN PUBLIC KEY-----")
	secret = strings.TrimSuffix(secret, "-----END PUBLIC KEY-----")
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(secret), ""))
	if err != nil {
		return nil, errors.New("it is no public key in Base64")
	}
	if _, err := x509.ParsePKIXPublicKey(der); err != nil && len(der) > 0 {
		return nil, errors.New("it is no public key")
	}
	return der, nil
}
