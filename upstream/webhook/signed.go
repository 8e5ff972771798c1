package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/template"
)

// partKind is a kind of part of a signed message.
type partKind int

const (
	literalPart partKind = iota
	bodyPart
	headerPart
	timePart    // the time in the header of the signature
	urlPart     // the URL that the sender has called
	paramsPart  // a form's fields as Twilio signs them
	payloadPart // the body, or the JSON in the only field of a form
	requestPart // a part of the request line, or the host
)

// signedPart is one part of a signed message. Its text is the name of a header
// or the text of a literal.
type signedPart struct {
	kind partKind
	text string
}

// requestParts are the placeholders of parts of a request. A Caddyfile writes out
// Caddy's shorthands.
var requestParts = map[string]string{
	"method": "method", "http.request.method": "method",
	"scheme": "scheme", "http.request.scheme": "scheme",
	"host": "host", "http.request.host": "host",
	"hostport": "hostport", "http.request.hostport": "hostport",
	"uri": "uri", "http.request.uri": "uri", "http.request.orig_uri": "uri",
	"path": "path", "http.request.uri.path": "path", "http.request.orig_uri.path": "path",
	"query": "query", "http.request.uri.query": "query", "http.request.orig_uri.query": "query",
}

// requestPart returns a part of the request as the sender has sent it, before
// handlers rewrote it.
func (r *request) requestPart(name string) string {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		original = *r.Request
	}
	switch name {
	case "method":
		return original.Method
	case "scheme":
		scheme, _ := r.repl.GetString("http.request.scheme")
		return scheme
	case "host":
		host, _ := r.repl.GetString("http.request.host")
		return host
	case "hostport":
		return original.Host
	case "path":
		return original.URL.EscapedPath()
	case "query":
		return original.URL.RawQuery
	}
	return original.URL.RequestURI()
}

// usesURL reports whether the sender signs the URL that it calls, as a whole.
func (s *scheme) usesURL() bool {
	return slices.ContainsFunc(s.signed, func(p signedPart) bool { return p.kind == urlPart || p.kind == paramsPart })
}

// compileSigned compiles the template of the signed message. A Caddyfile turns
// {header.NAME} into {http.request.header.NAME} before.
func (s sender) compileSigned() (signed []signedPart, err error) {
	t, err := template.Compile(s.signed)
	if err != nil {
		return nil, fmt.Errorf("signed %w", err)
	}
	var hasBody, hasTime bool
	for _, p := range t.Parts() {
		compiled, err := s.compileSignedPart(p)
		if err != nil {
			return nil, fmt.Errorf("signed `%s`: %w", s.signed, err)
		}
		hasBody = hasBody || compiled.kind == bodyPart || compiled.kind == paramsPart || compiled.kind == payloadPart
		hasTime = hasTime || compiled.kind == timePart ||
			compiled.kind == headerPart && compiled.text == textproto.CanonicalMIMEHeaderKey(s.timestamp)
		signed = append(signed, compiled)
	}
	if !hasBody {
		return nil, fmt.Errorf("signed `%s`: {body} must be part of it", s.signed)
	}
	if (s.timestamp != "" || s.timePrefix != "") && !hasTime {
		return nil, fmt.Errorf("signed `%s`: the timestamp must be part of it, or anyone could change it: write `signed {timestamp}.{body}`, or what the sender's manual says", s.signed)
	}
	return signed, nil
}

func (s sender) compileSignedPart(p template.Part) (signedPart, error) {
	if !p.Placeholder {
		return signedPart{literalPart, p.Text}, nil
	}
	switch {
	case p.Text == "body":
		return signedPart{kind: bodyPart}, nil
	case p.Text == "payload" && s.jsonInForm:
		return signedPart{kind: payloadPart}, nil
	case p.Text == "timestamp" && s.timePrefix != "":
		return signedPart{kind: timePart}, nil
	case p.Text == "timestamp" && s.timestamp == "":
		return signedPart{}, errors.New("it has a {timestamp}, but no option names the header that holds it: add `timestamp X-Timestamp`")
	case p.Text == "timestamp":
		return signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(s.timestamp)}, nil
	case requestParts[p.Text] != "":
		return signedPart{requestPart, requestParts[p.Text]}, nil
	case p.Text == "url" && s.url != "":
		return signedPart{kind: urlPart}, nil
	case p.Text == "params" && s.url != "":
		return signedPart{kind: paramsPart}, nil
	}
	header, ok := strings.CutPrefix(strings.TrimPrefix(p.Text, "http.request."), "header.")
	if !ok || header == "" {
		return signedPart{}, fmt.Errorf("unknown placeholder {%s}: want {body}, {timestamp}, {header.NAME}, {method}, {url}, {scheme}, {host}, {hostport}, {uri}, {path} or {query}", p.Text)
	}
	return signedPart{headerPart, textproto.CanonicalMIMEHeaderKey(header)}, nil
}

// messages returns the messages that the sender may have signed, each in parts.
// There are several only if the signature covers the URL, which has several
// spellings.
func (s *scheme) messages(r *request, timestamp string) (messages [][][]byte) {
	for _, url := range s.urls(r) {
		message := make([][]byte, 0, len(s.signed))
		for _, p := range s.signed {
			switch p.kind {
			case bodyPart:
				message = append(message, r.raw)
			case headerPart:
				message = append(message, []byte(r.Header.Get(p.text)))
			case timePart:
				message = append(message, []byte(timestamp))
			case requestPart:
				message = append(message, []byte(r.requestPart(p.text)))
			case urlPart:
				message = append(message, []byte(url))
			case paramsPart:
				params, ok := twilioParams(r, url)
				if !ok {
					return nil
				}
				message = append(message, params)
			case payloadPart:
				payload, ok := payloadOf(newContent(r.raw, r.media))
				if !ok {
					payload = string(r.raw)
				}
				message = append(message, []byte(payload))
			default:
				message = append(message, []byte(p.text))
			}
		}
		messages = append(messages, message)
	}
	return messages
}
