package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddy-sse/caddy-sse/event"
)

// Request is a request that is kept for the app. It holds what its sender has
// sent, credentials too.
type Request struct {
	// Rule names the rule that has received the request.
	Rule   string
	Method string
	// URI is the request's target as it came.
	URI  []byte
	Host []byte
	// Proto is the version of HTTP, for example HTTP/2.0.
	Proto string
	// Remote and Local are the addresses of the connection's ends.
	Remote string
	Local  string
	// TLS tells that it came over TLS, ServerName for whom.
	TLS        bool
	ServerName string
	Header     map[string][][]byte
	Body       []byte
}

// SetHeader keeps the headers as they came: they need not be text.
func (r *Request) SetHeader(header http.Header) {
	r.Header = make(map[string][][]byte, len(header))
	for name, values := range header {
		for _, value := range values {
			r.Header[name] = append(r.Header[name], []byte(value))
		}
	}
}

// HTTPHeader returns the headers.
func (r *Request) HTTPHeader() http.Header {
	header := make(http.Header, len(r.Header))
	for name, values := range r.Header {
		for _, value := range values {
			header[name] = append(header[name], string(value))
		}
	}
	return header
}

func encode(v any) ([]byte, error) { return json.Marshal(v) }

// decodeFrame finds what [encode] has written in an event of one line of data.
func decodeFrame(frame event.Frame, v any) error {
	_, rest, ok := bytes.Cut(frame, []byte("data: "))
	if !ok {
		return errors.New("an event without data")
	}
	if err := json.Unmarshal(bytes.TrimSuffix(rest, []byte("\n\n")), v); err != nil {
		return fmt.Errorf("decoding what was kept: %w", err)
	}
	return nil
}
