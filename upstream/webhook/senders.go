package webhook

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// sender describes one kind of sender: how the module verifies its requests,
// what its requests say about a delivery, and what it expects as a response.
type sender struct {
	// method is how the module verifies it. The zero value is a signature.
	method method
	// options are the options of verify's block that the sender takes, with
	// defaults in this row. Every sender with a timestamp also takes tolerance.
	options []string

	header      string   // holds the signature or the token
	algorithm   string   // of the signature
	encoding    string   // of the signature
	prefix      string   // precedes the signature in its header
	algorithms  []string // the header chooses one: its name and "=" are the prefix
	separator   string   // separates several signatures in the header
	signed      string   // the template of the signed message
	timestamp   string   // the header with the time of the signature in unix seconds
	timePrefix  string   // or what precedes the time in the header of the signature
	timeField   string   // or the time's GJSON path in the body
	sizes       []string // the algorithms: the size of the signature chooses one
	spelledURL  bool     // the sender decodes the URL before it signs it
	url         string   // the template of the signed URL
	alternative string   // the sender whose header names are accepted, too

	// decodeKey decodes a secret. Nil takes it as it is.
	decodeKey func(secret string) ([]byte, error)

	topic string // the template of a second default topic
	event string // the default template of the event's name
	id    string // the default template of the delivery's ID
	hook  string // the header that tells apart several webhooks of the sender on one URL
	split string // the default jq program that splits a body

	// cloudEvents means that the module reads CloudEvents' headers and media
	// types. Senders that sign the body must not set it: anyone on the way could
	// add headers that lead a delivery to another topic.
	cloudEvents bool
	// jsonInForm means that the sender may send its JSON in a field of a form.
	jsonInForm bool
	// maxBody is the default of the rule's max_body. Zero is the usual one.
	maxBody int64
	// objectOnly refuses bodies that aren't JSON objects.
	objectOnly bool
	// redact are names of members, at any depth, that are credentials. The
	// module removes them before it makes events.
	redact []string
	// status is the only HTTP status that it takes for success. Zero means that
	// it accepts any 2xx.
	status int
	// noBody means that the response must have no body.
	noBody bool

	unsignedHandshake handshake // answered before verification
	signedHandshake   handshake // answered after verification
}

// method is a way to verify a sender.
type method int

const (
	bySignature   method = iota
	byNothing            // no verification
	byToken              // a header holds the secret itself
	byPassword           // HTTP Basic
	byClientState        // each notification in the body holds the secret
	bySNS                // a signature in the body, with a certificate
)

// eachOfList splits a JSON array. Any other value is one event.
const eachOfList = `if type == "array" then .[] else . end`

// calledURL is the template of the URL that the sender has called.
const calledURL = "{http.request.scheme}://{http.request.hostport}{http.request.orig_uri}"

// senders are the kinds of senders that `verify` knows. To add one, add a row.
var senders = map[string]sender{
	"none": {method: byNothing, cloudEvents: true},
	"hmac": {
		options: []string{"header", "algorithm", "encoding", "prefix", "separator", "key", "signed",
			"timestamp", "timestamp_prefix", "url"},
		algorithm: "sha256",
		encoding:  "hex",
		signed:    "{body}",
		url:       calledURL,
	},
	"token": {method: byToken, options: []string{"header", "prefix"}, cloudEvents: true},
	"basic": {method: byPassword, options: []string{"user"}, cloudEvents: true},
	// docs.github.com, "Validating webhook deliveries". The signature covers
	// neither the event's name nor the delivery's ID, and there is no time.
	"github": {
		header:    "X-Hub-Signature-256",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "sha256=",
		signed:    "{body}",
		topic:     "github/{json.repository.full_name}",
		event:     "{http.request.header.X-GitHub-Event}",
		id:        "{http.request.header.X-GitHub-Delivery}",
		hook:      "X-GitHub-Hook-ID",
		maxBody:   25 << 20, // GitHub's own limit

		jsonInForm:      true, // by default
		signedHandshake: githubPing,
	},
	// docs.gitlab.com, "Webhooks": a header holds the secret token itself. A
	// retried delivery has the same idempotency key.
	"gitlab": {
		method:  byToken,
		header:  "X-Gitlab-Token",
		topic:   "gitlab/{json.project.path_with_namespace}",
		event:   "{json.object_kind}",
		id:      "{http.request.header.Idempotency-Key}",
		hook:    "X-Gitlab-Webhook-UUID",
		maxBody: 25 << 20, // GitLab's default limit
	},
	// docs.gitea.com, "Webhooks". Forgejo sends the same headers. The signature
	// covers the JSON, also if that is in a form.
	"gitea": {
		header:    "X-Gitea-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		signed:    "{payload}",
		topic:     "gitea/{json.repository.full_name}",
		event:     "{http.request.header.X-Gitea-Event}",
		id:        "{http.request.header.X-Gitea-Delivery}",

		jsonInForm: true,
	},
	// support.atlassian.com, "Manage webhooks" (Bitbucket Cloud).
	"bitbucket": {
		header:    "X-Hub-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "sha256=",
		signed:    "{body}",
		topic:     "bitbucket/{json.repository.full_name}",
		event:     "{http.request.header.X-Event-Key}",
		id:        "{http.request.header.X-Request-UUID}",
		hook:      "X-Hook-UUID",
	},
	// docs.stripe.com, "Verify webhook signatures manually". The header also
	// has v0 signatures, which are for test events: the module ignores them.
	"stripe": {
		header:     "Stripe-Signature",
		algorithm:  "sha256",
		encoding:   "hex",
		prefix:     "v1=",
		separator:  ",",
		timePrefix: "t=",
		signed:     "{timestamp}.{body}",
		event:      "{json.type}",
		id:         "{json.id}",
	},
	// docs.slack.dev, "Verifying requests from Slack".
	"slack": {
		header:          "X-Slack-Signature",
		algorithm:       "sha256",
		encoding:        "hex",
		prefix:          "v0=",
		timestamp:       "X-Slack-Request-Timestamp",
		signed:          "v0:{timestamp}:{body}",
		event:           "{json.event.type}",
		id:              "{json.event_id}",
		status:          http.StatusOK,
		noBody:          true,
		jsonInForm:      true, // interactions
		redact:          []string{"token", "bot_access_token", "response_url", "response_urls"},
		signedHandshake: slackVerification,
	},
	// shopify.dev, "Verify webhook deliveries" and "Ignore duplicates". The
	// signature doesn't cover the headers. One action of a merchant may be an
	// event on several of Shopify's topics, with one ID.
	"shopify": {
		header:    "X-Shopify-Hmac-Sha256",
		algorithm: "sha256",
		encoding:  "base64",
		signed:    "{body}",
		event:     "{http.request.header.X-Shopify-Topic}",
		id:        "{http.request.header.X-Shopify-Topic} {http.request.header.X-Shopify-Event-Id}",
	},
	// twilio.com/docs, "Webhooks security". It expects a response in TwiML or
	// no body at all. A shared key that signs instead of the auth token may use
	// SHA-256; the library's name for it is in X-Twilio-Webhooks-Signature-Settings.
	"twilio": {
		options:  []string{"url"},
		header:   "X-Twilio-Signature",
		sizes:    []string{"sha1", "sha256"},
		encoding: "base64",
		signed:   "{url}{params}",
		url:      calledURL,
		id:       "{http.request.header.I-Twilio-Idempotency-Token}",
		status:   http.StatusNoContent,
	},
	// twilio.com/docs/sendgrid, "Event Webhook security features".
	"sendgrid": {
		header:    "X-Twilio-Email-Event-Webhook-Signature",
		algorithm: "ecdsa",
		encoding:  "base64",
		timestamp: "X-Twilio-Email-Event-Webhook-Timestamp",
		signed:    "{timestamp}{body}",
		decodeKey: base64Key,
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
		event:      "{json.event_type}",
		id:         "{json.event_id}",
		status:     http.StatusOK,
	},
	// docs.discord.com, "Webhook Events" and "Interactions". From time to
	// time it tests whether a wrong signature gets a 401.
	"discord": {
		header:          "X-Signature-Ed25519",
		algorithm:       "ed25519",
		encoding:        "hex",
		timestamp:       "X-Signature-Timestamp",
		signed:          "{timestamp}{body}",
		decodeKey:       hexKey,
		event:           "{json.event.type}",
		status:          http.StatusNoContent,
		signedHandshake: discordPing,
	},
	// developers.facebook.com, "Webhooks: Getting started".
	"meta": {
		options:           []string{"challenge"},
		header:            "X-Hub-Signature-256",
		algorithm:         "sha256",
		encoding:          "hex",
		prefix:            "sha256=",
		signed:            "{body}",
		event:             "{json.object}",
		status:            http.StatusOK,
		unsignedHandshake: metaChallenge,
	},
	// W3C WebSub, "Authenticated Content Distribution". The signature names
	// its algorithm. YouTube's hub still uses SHA-1, which is safe in an HMAC.
	"websub": {
		options:           []string{"challenge"},
		header:            "X-Hub-Signature",
		algorithm:         "sha256",
		encoding:          "hex",
		algorithms:        []string{"sha256", "sha1", "sha384", "sha512"},
		signed:            "{body}",
		unsignedHandshake: websubChallenge,
	},
	// The Standard Webhooks specification 1.0.0, "Signature scheme". This
	// is the symmetric scheme, v1.
	"standard-webhooks": standardWebhooks("Webhook", "svix"),
	// docs.svix.com, "Verifying webhooks manually": the same under the older
	// names of the headers.
	"svix": standardWebhooks("Svix", "standard-webhooks"),
	// The CloudEvents "HTTP 1.1 Web Hooks" specification, which verifies
	// senders by a bearer token (RFC 6750).
	"cloudevents": {
		method:            byToken,
		options:           []string{"challenge"},
		header:            "Authorization",
		prefix:            "Bearer ",
		event:             "{json.type}",
		id:                "{json.source} {json.id}",
		cloudEvents:       true,
		unsignedHandshake: cloudEventsOrigin,
	},
	// docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS
	// messages". The secrets are the names (ARN) of the topics: anyone can
	// have SNS sign for a topic of their own.
	"sns": {
		method:          bySNS,
		options:         []string{"hosts", "tolerance"},
		id:              "{json.MessageId}",
		redact:          []string{"UnsubscribeURL", "SubscribeURL", "Token", "Signature", "SigningCertURL"},
		signedHandshake: snsConfirmation,
	},
	// developers.zoom.us, "Using webhooks".
	"zoom": {
		header:          "X-Zm-Signature",
		algorithm:       "sha256",
		encoding:        "hex",
		prefix:          "v0=",
		timestamp:       "X-Zm-Request-Timestamp",
		signed:          "v0:{timestamp}:{body}",
		event:           "{json.event}",
		status:          http.StatusOK,
		signedHandshake: zoomValidation,
	},
	// learn.microsoft.com/graph, "Receive change notifications through
	// webhooks".
	"microsoft-graph": {
		method:            byClientState,
		event:             "{json.changeType}",
		split:             ".value[]",
		redact:            []string{"clientState"},
		unsignedHandshake: graphValidation,
	},
	// docs.x.com, "Securing webhooks". Its handshake signs any token that a
	// client sends, with the key that signs bodies. A body that could be such a
	// token proves nothing: see [xCRC].
	"x": {
		header:            "X-Twitter-Webhooks-Signature",
		algorithm:         "sha256",
		encoding:          "base64",
		prefix:            "sha256=",
		signed:            "{body}",
		objectOnly:        true,
		status:            http.StatusOK,
		unsignedHandshake: xCRC,
	},
	// developers.hubspot.com, "Validate requests", version 3. Its documents say
	// that the eventId may repeat.
	"hubspot": {
		options:    []string{"url"},
		header:     "X-HubSpot-Signature-v3",
		algorithm:  "sha256",
		encoding:   "base64",
		timestamp:  "X-HubSpot-Request-Timestamp",
		signed:     "{method}{url}{body}{timestamp}",
		url:        calledURL,
		spelledURL: true,
		event:      "{json.subscriptionType}",
		split:      eachOfList,
	},
	// developer.pagerduty.com, "Verifying webhook signatures". During a rotation
	// the header has a signature of each secret.
	"pagerduty": {
		header:    "X-PagerDuty-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		prefix:    "v1=",
		separator: ",",
		signed:    "{body}",
		event:     "{json.event.event_type}",
		id:        "{json.event.id}",
	},
	// developer.zendesk.com, "Verifying webhook authenticity".
	"zendesk": {
		header:    "X-Zendesk-Webhook-Signature",
		algorithm: "sha256",
		encoding:  "base64",
		timestamp: "X-Zendesk-Webhook-Signature-Timestamp",
		signed:    "{timestamp}{body}",
		event:     "{json.type}",
		id:        "{http.request.header.X-Zendesk-Webhook-Invocation-Id}",
		hook:      "X-Zendesk-Webhook-Id",
	},
	// developer.squareup.com, "Validate and process notifications".
	"square": {
		options:   []string{"url"},
		header:    "X-Square-Hmacsha256-Signature",
		algorithm: "sha256",
		encoding:  "base64",
		signed:    "{url}{body}",
		url:       calledURL,
		event:     "{json.type}",
		id:        "{json.event_id}",
	},
	// woocommerce.github.io, "Webhooks". The id is made of the time in seconds.
	// The ping isn't signed; WooCommerce doesn't save a webhook whose ping gets
	// another status than 200.
	"woocommerce": {
		header:            "X-WC-Webhook-Signature",
		algorithm:         "sha256",
		encoding:          "base64",
		signed:            "{body}",
		event:             "{http.request.header.X-WC-Webhook-Topic}",
		id:                "{http.request.header.X-WC-Webhook-Delivery-ID}",
		hook:              "X-WC-Webhook-ID",
		status:            http.StatusOK,
		unsignedHandshake: wooCommercePing,
	},
	// confluence.atlassian.com, "Event payload" (Bitbucket Data Center). The test
	// of a connection isn't signed.
	"bitbucket-data-center": {
		header:            "X-Hub-Signature",
		algorithm:         "sha256",
		encoding:          "hex",
		prefix:            "sha256=",
		signed:            "{body}",
		topic:             "bitbucket/{json.repository.project.key}/{json.repository.slug}",
		event:             "{http.request.header.X-Event-Key}",
		id:                "{http.request.header.X-Request-Id}",
		unsignedHandshake: bitbucketPing,
	},
	// linear.app/developers, "Webhooks". The body has the time.
	"linear": {
		header:    "Linear-Signature",
		algorithm: "sha256",
		encoding:  "hex",
		signed:    "{body}",
		timeField: "webhookTimestamp",
		event:     "{json.type}",
		id:        "{http.request.header.Linear-Delivery}",
		status:    http.StatusOK,
	},
	// auth0.com/docs, "Custom log streams": the header holds what the stream's
	// "Authorization Token" says. A body is a list of logs, or JSON lines.
	"auth0": {
		method: byToken,
		header: "Authorization",
		event:  "{json.data.type}",
		id:     "{json.log_id}",
		split:  eachOfList,
	},
}

func standardWebhooks(family, alternative string) sender {
	return sender{
		header:      family + "-Signature",
		algorithm:   "sha256",
		encoding:    "base64",
		prefix:      "v1,",
		separator:   " ",
		signed:      "{header." + family + "-Id}.{timestamp}.{body}",
		timestamp:   family + "-Timestamp",
		alternative: alternative,
		decodeKey:   standardKey,
		event:       "{json.type}",
		id:          "{http.request.header." + family + "-Id}",
	}
}

// knownSenders lists the senders for an error.
func knownSenders() string {
	return strings.Join(slices.Sorted(maps.Keys(senders)), ", ")
}
