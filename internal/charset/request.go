package charset

import (
	"bytes"
	"net/http"
	"net/url"
	"unicode/utf8"

	"golang.org/x/text/encoding"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// ReadText returns the text of a request's body in UTF-8. It refuses a charset that
// the module can't convert (415), bytes that mean nothing in the charset (400), and
// text of more than maxBytes in UTF-8 (413).
//
// A body that isn't UTF-8, and that isn't declared as something else, comes back as
// it is: the parser of its type refuses it.
func ReadText(body []byte, declared string, maxBytes int64) ([]byte, *refusal.Error) {
	enc, mark, name, err := encodingOf(body, declared)
	if enc == nil {
		return body, unknown(err, body, declared)
	}
	text, refused := readAs(body[len(mark):], enc, name)
	if refused == nil && int64(len(text)) > maxBytes {
		return nil, tooLarge(maxBytes)
	}
	return text, refused
}

// ReadForm is [ReadText] for application/x-www-form-urlencoded, whose names and
// values have the charset. The form that it returns is encoded again.
func ReadForm(form []byte, declared string, maxBytes int64) ([]byte, *refusal.Error) {
	plain, err := url.QueryUnescape(string(form))
	if err != nil || declared == "" {
		return form, nil // the parser refuses what is no form
	}
	enc, err := declaredEncoding([]byte(plain), declared)
	if enc == nil {
		return form, unknown(err, []byte(plain), declared)
	}
	var converted []byte
	for len(form) > 0 {
		end := bytes.IndexAny(form, "&=") // neither is part of a name or a value
		if end < 0 {
			end = len(form)
		}
		plain, _ := url.QueryUnescape(string(form[:end]))
		text, refused := readAs([]byte(plain), enc, declared)
		if refused != nil {
			return nil, refused
		}
		converted = append(converted, url.QueryEscape(string(text))...)
		form = form[end:]
		if len(form) > 0 {
			converted, form = append(converted, form[0]), form[1:]
		}
		if int64(len(converted)) > maxBytes {
			return nil, tooLarge(maxBytes)
		}
	}
	return converted, nil
}

// unknown returns the refusal of an unknown charset, unless the text is UTF-8 all
// the same.
func unknown(err error, text []byte, declared string) *refusal.Error {
	if err == nil || utf8.Valid(text) {
		return nil
	}
	return refusal.Newf(http.StatusUnsupportedMediaType, "the charset %q is unknown: send UTF-8", refusal.Shorten(declared, maxQuoted))
}

func readAs(body []byte, enc encoding.Encoding, name string) ([]byte, *refusal.Error) {
	text := decode(body, enc)
	if bytes.ContainsRune(text, utf8.RuneError) {
		return nil, refusal.Newf(http.StatusBadRequest, "the text has bytes that mean nothing in its charset %q", refusal.Shorten(name, maxQuoted))
	}
	return text, nil
}

// maxQuoted limits the bytes of a sender's text in a reason.
const maxQuoted = 40

func tooLarge(maxBytes int64) *refusal.Error {
	return refusal.Newf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes in UTF-8", maxBytes)
}
