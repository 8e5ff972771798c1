package forward_test

import (
	"bytes"
	"net/http"
	"reflect"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// FuzzRequest checks that a request survives encoding and decoding.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("/a?b"), "h", "X-A", "v", []byte("body"))
	f.Add([]byte("/\xff"), "\xfe", "Data: x\n\n", "\r\n\x00data: ", []byte("\n\ndata: \r"))
	f.Fuzz(func(t *testing.T, uri []byte, host, name, value string, body []byte) {
		name = http.CanonicalHeaderKey(name)
		for _, c := range []byte(name) {
			if c < '!' || c > '~' {
				return // not the name of a header
			}
		}
		sent := &forward.Request{Method: "POST", URI: uri, Host: []byte(host), Body: body}
		sent.SetHeader(http.Header{name: {value, value}})
		data, err := forward.Encode(sent)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := event.Event{Data: data}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got := new(forward.Request)
		if err := forward.DecodeFrame(frame.WithID("x"), got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.URI, uri) || string(got.Host) != host || !bytes.Equal(got.Body, body) || !reflect.DeepEqual(got.HTTPHeader(), sent.HTTPHeader()) {
			t.Errorf("got %+v, want %+v", got, sent)
		}
	})
}
