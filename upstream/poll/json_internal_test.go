package poll

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// ReadDocument reads a document by a configuration without options.
func ReadDocument(resp *subrequest.Response) error {
	_, err := new(Config).read(context.Background(), resp, expectation{})
	return err
}

// CheckReading checks what a response is read as. The response may be no
// document.
func CheckReading(resp *subrequest.Response) error {
	body := bytes.Clone(resp.Body)
	t := mediaTypeOf(resp.Header)
	d, err := new(Config).read(context.Background(), resp, expectation{})
	var broken *documentError
	switch {
	case !bytes.Equal(body, resp.Body):
		return errors.New("the body is changed")
	case errors.As(err, &broken) && broken.at > int64(4*len(body)+4):
		return errors.New("the wrong byte is far behind the end")
	case err != nil && !t.isJSON():
		return err
	case err != nil:
		if _, wrong := diff.Parse(body); wrong == nil && t.charset == "" {
			return err
		}
		return nil
	case !utf8.Valid(d.text):
		return errors.New("the text is not UTF-8")
	case t.isJSON() && !json.Valid(d.text):
		return errors.New("the text is not JSON")
	case json.Valid(body) && utf8.Valid(body) && t.charset == "":
		if plain, err := diff.Parse(body); err != nil || !bytes.Equal(plain.Bytes(), d.text) {
			return errors.New("JSON is changed")
		}
	}
	return nil
}
