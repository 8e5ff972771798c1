package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/charset"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// readMultipart replaces a multipart/form-data body (RFC 7578) by the same form
// without its files, as application/x-www-form-urlencoded.
func (r *request) readMultipart(maxBytes int64) *refusal.Error {
	if r.media.name != multipartType {
		return nil
	}
	form, err := multipartToForm(r.content.body, r.media.header, maxBytes)
	var refused *refusal.Error
	if errors.As(err, &refused) {
		return refused
	}
	if err != nil {
		return refusal.Newf(http.StatusBadRequest, "the body isn't a form (%s): %s", multipartType, err)
	}
	r.media = mediaType{header: formType, name: formType}
	r.content = newContent(form, r.media)
	return nil
}

// multipartToForm returns the fields in their order. Its errors are for the
// sender.
func multipartToForm(body []byte, contentType string, maxBytes int64) ([]byte, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return nil, errors.New("its content type has no boundary")
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var form []byte
	for n := 1; ; n++ {
		part, err := parts.NextPart()
		switch {
		case err == io.EOF:
			return form, nil
		case err != nil:
			return nil, errors.New("it has no such parts, or breaks off")
		case n > maxFields:
			return nil, fmt.Errorf("it has more than %d parts", maxFields)
		}
		if form, err = appendField(form, part, maxBytes); err != nil {
			return nil, err
		}
	}
}

// appendField appends a part to an encoded form, unless the part is a file. A
// browser sends a file without a name if the user has chosen none. A part may have
// a charset of its own (RFC 7578 §4.5).
func appendField(form []byte, part *multipart.Part, maxBytes int64) ([]byte, error) {
	disposition, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	name, ok := params["name"]
	if err != nil || disposition != "form-data" || !ok {
		return nil, errors.New("a part has no name")
	}
	value, err := io.ReadAll(part)
	if err != nil {
		return nil, errors.New("it breaks off")
	}
	if _, isFile := params["filename"]; isFile {
		return form, nil
	}
	value, refused := charset.ReadText(value, parseMediaType(part.Header.Get("Content-Type")).charset, maxBytes)
	if refused != nil {
		return nil, refused
	}
	if !utf8.ValidString(name) || !utf8.Valid(value) {
		return nil, errors.New("its text is not UTF-8")
	}
	if len(form) > 0 {
		form = append(form, '&')
	}
	return fmt.Appendf(form, "%s=%s", url.QueryEscape(name), url.QueryEscape(string(value))), nil
}
