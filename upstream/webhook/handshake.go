package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// HandshakeResponse is the response to a sender's handshake. By a handshake a
// sender finds out whether a URL wants its deliveries; it publishes no events.
type HandshakeResponse struct {
	// Status is the HTTP status.
	Status int
	// Header holds further headers; it may be nil.
	Header http.Header
	// Type is the Content-Type of the body. It is empty if there is no body.
	Type string
	// Body is at most a few KiB. If it repeats a value of the request, it is
	// plain text or JSON that the module encodes.
	Body []byte
}

// Write writes the response.
func (h *HandshakeResponse) Write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range h.Header {
		header[name] = values
	}
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if h.Type != "" {
		header.Set("Content-Type", h.Type)
	}
	w.WriteHeader(h.Status)
	_, _ = w.Write(h.Body) // a sender that is gone sends the handshake again
}

// handshake answers a request if it is one of the sender's handshakes. Otherwise
// it returns nil and no refusal. An unsigned handshake runs before the module
// reads the body.
type handshake func(v *verifier, r *request) (*HandshakeResponse, *refusal.Error)

// maxChallenge limits the length of a value that the response repeats.
const maxChallenge = 1024

// echo repeats a value as text that no browser takes for a page.
func echo(value string) (*HandshakeResponse, *refusal.Error) {
	if value == "" || len(value) > maxChallenge || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return nil, refusal.Newf(http.StatusBadRequest, "the challenge is not one line of text of 1 to %d bytes", maxChallenge)
	}
	return &HandshakeResponse{Status: http.StatusOK, Type: "text/plain; charset=utf-8", Body: []byte(value)}, nil
}

func jsonResponse(v any) (*HandshakeResponse, *refusal.Error) {
	body, err := json.Marshal(v)
	if err != nil { // texts and numbers always marshal
		panic(err)
	}
	return &HandshakeResponse{Status: http.StatusOK, Type: "application/json", Body: body}, nil
}

// only returns the value of a query parameter that comes exactly once, or an
// empty text.
func only(query url.Values, name string) string {
	if values := query[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// githubPing: docs.github.com, "Webhook events and payloads", "ping". GitHub sends
// it when a webhook is made, whatever the events that were chosen. The signature
// doesn't cover the header: the body has to be a ping, too.
func githubPing(_ *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	var message struct{ Zen string }
	if r.Header.Get("X-GitHub-Event") != "ping" || json.Unmarshal(r.content.body, &message) != nil || message.Zen == "" {
		return nil, nil
	}
	return &HandshakeResponse{Status: http.StatusNoContent}, nil
}

// wooCommercePing: WooCommerce's WC_Webhook::deliver_ping. It has no signature,
// and nothing but the number of the webhook.
func wooCommercePing(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	if r.Method != http.MethodPost || r.Header.Get(v.header) != "" || !r.media.isForm() {
		return nil, nil
	}
	start, err := io.ReadAll(io.LimitReader(r.Body, maxPing+1))
	r.Body = struct { // the rest follows
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), r.Body), r.Body}
	if err != nil || !wooCommerceHook.Match(start) {
		return nil, nil
	}
	return &HandshakeResponse{Status: http.StatusOK}, nil
}

// maxPing is the greatest length of WooCommerce's ping.
const maxPing = 64

var wooCommerceHook = regexp.MustCompile(`^webhook_id=[0-9]{1,20}$`)

// bitbucketPing: confluence.atlassian.com, "Managing webhooks in Bitbucket Data
// Center", the button "Test connection".
func bitbucketPing(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	if r.Method != http.MethodPost || r.Header.Get(v.header) != "" || r.Header.Get("X-Event-Key") != "diagnostics:ping" {
		return nil, nil
	}
	return &HandshakeResponse{Status: http.StatusOK}, nil
}

// slackVerification: docs.slack.dev, "url_verification event".
func slackVerification(_ *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	var message struct{ Type, Challenge string }
	if json.Unmarshal(r.content.body, &message) != nil || message.Type != "url_verification" {
		return nil, nil
	}
	return echo(message.Challenge)
}

// zoomValidation: developers.zoom.us, "Validate your webhook endpoint". The
// response signs the token with the secret that has signed the request.
func zoomValidation(_ *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	var message struct {
		Event   string
		Payload struct{ PlainToken string }
	}
	if json.Unmarshal(r.content.body, &message) != nil || message.Event != "endpoint.url_validation" {
		return nil, nil
	}
	plain := message.Payload.PlainToken
	if refused := checkToken(plain); refused != nil {
		return nil, refused
	}
	return jsonResponse(map[string]string{
		"plainToken":     plain,
		"encryptedToken": hex.EncodeToString(r.key.(*hmacKey).sign([]byte(plain))),
	})
}

// tokenChars matches tokens that a handshake asks the module to sign. Nothing
// that it matches is a JSON object or a form, or a message that a sender signs.
var tokenChars = regexp.MustCompile(`^[A-Za-z0-9+/_.=-]{1,256}$`)

func checkToken(token string) *refusal.Error {
	if !tokenChars.MatchString(token) {
		return refusal.Newf(http.StatusBadRequest, "the token is not one of 1 to 256 letters, digits and + / _ . = -")
	}
	return nil
}

// xCRC: docs.x.com, "Challenge-Response Checks". Any client may send one, and X
// signs deliveries with the same key and in the same way. A token can't be a
// delivery, because deliveries are JSON objects and tokens have no braces.
func xCRC(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	if r.Method != http.MethodGet || !r.URL.Query().Has("crc_token") {
		return nil, nil
	}
	token := only(r.URL.Query(), "crc_token")
	if refused := checkToken(token); refused != nil {
		return nil, refused
	}
	sum := v.signing[0].(*hmacKey).sign([]byte(token))
	return jsonResponse(map[string]string{"response_token": "sha256=" + base64.StdEncoding.EncodeToString(sum)})
}

// discordPing: docs.discord.com, "Webhook Events" (type 0) and "Interactions"
// (type 1, which webhook events use for other messages than a PING).
func discordPing(_ *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	var message struct {
		Type  *int
		Event json.RawMessage
	}
	if json.Unmarshal(r.content.body, &message) != nil || message.Type == nil || message.Event != nil {
		return nil, nil
	}
	switch *message.Type {
	case 0:
		return &HandshakeResponse{Status: http.StatusNoContent}, nil
	case 1:
		return jsonResponse(map[string]int{"type": 1})
	}
	return nil, nil
}

// metaChallenge: developers.facebook.com, "Verification Requests".
func metaChallenge(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	query := r.URL.Query()
	if r.Method != http.MethodGet || !query.Has("hub.mode") {
		return nil, nil
	}
	if only(query, "hub.mode") != "subscribe" || !v.challenge.have(only(query, "hub.verify_token")) {
		return nil, refusal.Newf(http.StatusForbidden, "the verify token is wrong")
	}
	return echo(only(query, "hub.challenge"))
}

// websubChallenge: W3C WebSub, section 5.3, "Hub Verifies Intent of the
// Subscriber". A topic that isn't in the rule's challenge gets a 404. So does
// every unsubscription, because any client could request one.
func websubChallenge(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	query := r.URL.Query()
	if r.Method != http.MethodGet || !query.Has("hub.mode") {
		return nil, nil
	}
	switch only(query, "hub.mode") {
	case "denied":
		return &HandshakeResponse{Status: http.StatusOK}, nil
	case "subscribe":
		if v.challenge.have(only(query, "hub.topic")) {
			return echo(only(query, "hub.challenge"))
		}
	case "unsubscribe":
		return nil, refusal.Newf(http.StatusNotFound, "the rule keeps its subscription to this topic")
	}
	return nil, refusal.Newf(http.StatusNotFound, "the rule has no subscription to this topic")
}

// graphValidation: learn.microsoft.com/graph, "notificationUrl validation".
// Nothing verifies its sender.
func graphValidation(_ *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	query := r.URL.Query()
	if r.Method != http.MethodPost || !query.Has("validationToken") {
		return nil, nil
	}
	return echo(only(query, "validationToken"))
}

// originName matches an origin in CloudEvents' sense: a DNS name.
var originName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]{0,252})$`)

// cloudEventsOrigin: CloudEvents, "HTTP 1.1 Web Hooks", section 4, "Abuse
// Protection". The module doesn't call the callback for later consent: any
// client chooses its URL.
func cloudEventsOrigin(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	origins := r.Header.Values("WebHook-Request-Origin")
	if r.Method != http.MethodOptions || len(origins) == 0 {
		return nil, nil
	}
	origin := origins[0]
	if len(origins) > 1 || !originName.MatchString(origin) {
		return nil, refusal.Newf(http.StatusBadRequest, "WebHook-Request-Origin is not a DNS name")
	}
	if len(v.challenge) > 0 && !v.challenge.have(origin) {
		return nil, refusal.Newf(http.StatusForbidden, "the origin may not send here")
	}
	header := http.Header{"Allow": {http.MethodPost}, "Webhook-Allowed-Origin": {origin}}
	if r.Header.Get("WebHook-Request-Rate") != "" {
		header.Set("WebHook-Allowed-Rate", "*")
	}
	return &HandshakeResponse{Status: http.StatusOK, Header: header}, nil
}
