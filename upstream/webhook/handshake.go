package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// HandshakeResponse is what a sender's handshake is answered with: by it a sender finds
// out whether an address wants its deliveries. Nothing is published for it.
type HandshakeResponse struct {
	// Status is the HTTP status.
	Status int
	// Header holds what the handshake wants beside the body; it may be nil.
	Header http.Header
	// Type is the body's content type; empty if there is none.
	Type string
	// Body is at most some KiB. Where it repeats what the request said it is
	// plain text, or JSON that we have made.
	Body []byte
}

// Write answers the request.
func (a *HandshakeResponse) Write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range a.Header {
		header[name] = values
	}
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if a.Type != "" {
		header.Set("Content-Type", a.Type)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a sender that is gone asks again
}

// handshake answers a request if it is one of the sender's handshakes; else it
// returns nil and no refusal. The third argument is nil where nothing is signed.
type handshake func(p *provisioned, d *received, by *proven) (*HandshakeResponse, *refusal.Error)

// maxChallenge is how long a value may be that is sent back.
const maxChallenge = 1024

// echo sends a value back, as text that no browser takes for a page.
func echo(value string) (*HandshakeResponse, *refusal.Error) {
	if value == "" || len(value) > maxChallenge || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return nil, refusal.Newf(http.StatusBadRequest, "the challenge is not one line of text of 1 to %d bytes", maxChallenge)
	}
	return &HandshakeResponse{Status: http.StatusOK, Type: "text/plain; charset=utf-8", Body: []byte(value)}, nil
}

func jsonAnswer(v any) (*HandshakeResponse, *refusal.Error) {
	body, err := json.Marshal(v)
	if err != nil { // texts and numbers always marshal
		panic(err)
	}
	return &HandshakeResponse{Status: http.StatusOK, Type: "application/json", Body: body}, nil
}

// only is the one value of a query's parameter.
func only(query url.Values, name string) string {
	if values := query[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// slackVerification: docs.slack.dev, "url_verification event".
func slackVerification(_ *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	var message struct{ Type, Challenge string }
	if json.Unmarshal(d.body, &message) != nil || message.Type != "url_verification" {
		return nil, nil
	}
	return echo(message.Challenge)
}

// zoomValidation: developers.zoom.us, "Validate your webhook endpoint". The
// answer signs what was sent with the secret that has signed the request.
func zoomValidation(_ *provisioned, d *received, by *proven) (*HandshakeResponse, *refusal.Error) {
	var message struct {
		Event   string
		Payload struct{ PlainToken string }
	}
	if json.Unmarshal(d.body, &message) != nil || message.Event != "endpoint.url_validation" {
		return nil, nil
	}
	plain := message.Payload.PlainToken
	if refused := checkToken(plain); refused != nil {
		return nil, refused
	}
	return jsonAnswer(map[string]string{
		"plainToken":     plain,
		"encryptedToken": hex.EncodeToString(by.key.(*hmacKey).sign([]byte(plain))),
	})
}

// tokenChars are those of tokens that we are asked to sign. Nothing that is
// written with them is a JSON object or a form, or what a sender signs.
var tokenChars = regexp.MustCompile(`^[A-Za-z0-9+/_.=-]{1,256}$`)

func checkToken(token string) *refusal.Error {
	if !tokenChars.MatchString(token) {
		return refusal.Newf(http.StatusBadRequest, "the token is not one of 1 to 256 letters, digits and + / _ . = -")
	}
	return nil
}

// xCRC: docs.x.com, "Challenge-Response Checks". Anyone may ask for it, and X
// signs deliveries with the same key and in the same way: the token's letters,
// and that deliveries have to be JSON objects, keep one from being the other.
func xCRC(p *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	if d.Method != http.MethodGet || !d.URL.Query().Has("crc_token") {
		return nil, nil
	}
	token := only(d.URL.Query(), "crc_token")
	if refused := checkToken(token); refused != nil {
		return nil, refused
	}
	sum := p.signing[0].(*hmacKey).sign([]byte(token))
	return jsonAnswer(map[string]string{"response_token": "sha256=" + base64.StdEncoding.EncodeToString(sum)})
}

// discordPing: docs.discord.com, "Webhook Events" (type 0) and "Interactions"
// (type 1, which webhook events use for what isn't a PING).
func discordPing(_ *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	var message struct {
		Type  *int
		Event json.RawMessage
	}
	if json.Unmarshal(d.body, &message) != nil || message.Type == nil || message.Event != nil {
		return nil, nil
	}
	switch *message.Type {
	case 0:
		return &HandshakeResponse{Status: http.StatusNoContent}, nil
	case 1:
		return jsonAnswer(map[string]int{"type": 1})
	}
	return nil, nil
}

// metaChallenge: developers.facebook.com, "Verification Requests".
func metaChallenge(p *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	query := d.URL.Query()
	if d.Method != http.MethodGet || !query.Has("hub.mode") {
		return nil, nil
	}
	if only(query, "hub.mode") != "subscribe" || !p.challenge.have(only(query, "hub.verify_token")) {
		return nil, refusal.Newf(http.StatusForbidden, "the verify token is wrong")
	}
	return echo(only(query, "hub.challenge"))
}

// websubChallenge: W3C WebSub, section 5.3, "Hub Verifies Intent of the
// Subscriber". A topic that nobody here has asked for is answered with 404, and
// so is the end of a subscription that the rule wants: anyone could ask for it.
func websubChallenge(p *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	query := d.URL.Query()
	if d.Method != http.MethodGet || !query.Has("hub.mode") {
		return nil, nil
	}
	switch only(query, "hub.mode") {
	case "denied":
		return &HandshakeResponse{Status: http.StatusOK}, nil
	case "subscribe":
		if p.challenge.have(only(query, "hub.topic")) {
			return echo(only(query, "hub.challenge"))
		}
	case "unsubscribe":
		return nil, refusal.Newf(http.StatusNotFound, "nobody here has asked for an end of this")
	}
	return nil, refusal.Newf(http.StatusNotFound, "nobody here has asked for this topic")
}

// graphValidation: learn.microsoft.com/graph, "notificationUrl validation". It
// has no proof of who asks.
func graphValidation(_ *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	query := d.URL.Query()
	if d.Method != http.MethodPost || !query.Has("validationToken") {
		return nil, nil
	}
	return echo(only(query, "validationToken"))
}

// originName is an origin as CloudEvents means it: a DNS name.
var originName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]{0,252})$`)

// cloudEventsOrigin: CloudEvents, "HTTP 1.1 Web Hooks", section 4, "Abuse
// Protection". The callback for later consent is not called: its URL is a
// stranger's.
func cloudEventsOrigin(p *provisioned, d *received, _ *proven) (*HandshakeResponse, *refusal.Error) {
	origins := d.Header.Values("WebHook-Request-Origin")
	if d.Method != http.MethodOptions || len(origins) == 0 {
		return nil, nil
	}
	origin := origins[0]
	if len(origins) > 1 || !originName.MatchString(origin) {
		return nil, refusal.Newf(http.StatusBadRequest, "WebHook-Request-Origin is no DNS name")
	}
	if len(p.challenge) > 0 && !p.challenge.have(origin) {
		return nil, refusal.Newf(http.StatusForbidden, "the origin may not send here")
	}
	header := http.Header{"Allow": {http.MethodPost}, "Webhook-Allowed-Origin": {origin}}
	if d.Header.Get("WebHook-Request-Rate") != "" {
		header.Set("WebHook-Allowed-Rate", "*")
	}
	return &HandshakeResponse{Status: http.StatusOK, Header: header}, nil
}

// isObject tells whether a body begins like a JSON object.
func isObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}
