package webhook

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	bodies "github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/charset"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// request is one incoming request. [Webhook.receive] fills it in step by step;
// each step reads what the steps before it have set.
type request struct {
	*http.Request
	repl *caddy.Replacer
	// media is the parsed Content-Type.
	media mediaType

	// raw is the original body. Signatures cover it, and the app gets it.
	// Nothing has verified it yet while key is nil.
	raw []byte

	// hold is what the body holds of [largeBodies].
	hold *bodies.Hold

	// key is the one that signed the request, if the sender signs requests.
	key key
	// scheme is the one that the signature follows, if the sender signs requests.
	scheme *scheme

	// content is the decoded body, and without secrets once it is redacted.
	content *content
	// isBatch means that the content is a list of CloudEvents.
	isBatch bool
}

func newRequest(r *http.Request, repl *caddy.Replacer) *request {
	return &request{Request: r, repl: repl, media: parseMediaType(r.Header.Get("Content-Type"))}
}

// read reads the body and puts it back, so that another handler can read it.
func (r *request) read(w http.ResponseWriter, maxBytes int64) (refused *refusal.Error) {
	r.raw, refused = bodies.ReadWithin(r.hold, w, r.Request, maxBytes)
	if refused != nil && refused.Status == http.StatusRequestEntityTooLarge && refused.Reason == tooLarge(maxBytes) {
		refused.Reason += ruleLimit
	}
	return refused
}

// tooLarge is what [bodies.ReadWithin] says of a body beyond the rule's limit,
// and not beyond another handler's.
func tooLarge(maxBytes int64) string {
	return fmt.Sprintf("the body is larger than %d bytes", maxBytes)
}

const ruleLimit = " (the rule's max_body)"

// readContent parses the decoded body as far as every rule needs it. It refuses a
// body that other readers could understand in another way. inForm means that the
// sender sends its JSON in a form, too.
func (r *request) readContent(inForm bool, maxBytes int64) *refusal.Error {
	if refused := r.readMultipart(maxBytes); refused != nil {
		return refused
	}
	if refused := r.convert(maxBytes); refused != nil {
		return refused
	}
	if inForm {
		if refused := r.unwrapPayload(); refused != nil {
			return refused
		}
	}
	if refused := r.content.checkJSON(); refused != nil {
		return refused
	}
	return r.content.checkDuplicateKeys()
}

// convert converts text to UTF-8 from the charset that its type declares.
func (r *request) convert(maxBytes int64) *refusal.Error {
	read := charset.ReadText
	switch {
	case r.media.isForm():
		read = charset.ReadForm
	case !r.media.isText():
		return nil
	}
	text, refused := read(r.content.body, r.media.charset, maxBytes)
	if refused == nil && !bytes.Equal(text, r.content.body) {
		r.content = newContent(text, r.media)
	}
	return refused
}

// decode undoes the body's content coding (RFC 9110 §8.4). The limit applies to
// the decoded body, too: a few bytes of gzip may decode to any number.
func (r *request) decode(maxBytes int64) *refusal.Error {
	switch coding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ","))); coding {
	case "", "identity":
		r.content = newContent(r.raw, r.media)
		return nil
	case "gzip", "x-gzip":
	default:
		return refusal.Newf(http.StatusUnsupportedMediaType, "the body's Content-Encoding is neither gzip nor identity")
	}
	unzip, err := gzip.NewReader(bytes.NewReader(r.raw))
	if err != nil {
		return notGzip(err)
	}
	body, err := io.ReadAll(io.LimitReader(r.hold.Reader(unzip), maxBytes+1))
	switch {
	case bodies.TooMany(err) != nil:
		return bodies.TooMany(err)
	case err != nil:
		return notGzip(err)
	case int64(len(body)) > maxBytes:
		return refusal.Newf(http.StatusRequestEntityTooLarge, "%s when it is unzipped%s", tooLarge(maxBytes), ruleLimit)
	}
	r.content = newContent(body, r.media)
	return nil
}

func notGzip(err error) *refusal.Error {
	refused := refusal.Newf(http.StatusBadRequest, "the Content-Encoding is gzip, but the body isn't gzip")
	refused.Err = err
	return refused
}

// clientNetwork returns the client's address, or the /64 network of an IPv6
// address, as trusted proxies report it.
func clientNetwork(r *http.Request) string {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	network, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return network.String()
}
