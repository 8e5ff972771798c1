package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddy-sse/caddy-sse/event"
)

// Request is a received request that the app is to get. It holds all that its
// sender has sent, including credentials.
type Request struct {
	// Rule names the rule that has received the request.
	Rule   string
	Method string
	// URI is the request target as it came.
	URI  []byte
	Host []byte
	// Proto is the version of HTTP, for example HTTP/2.0.
	Proto string
	// Remote and Local are the addresses of the connection.
	Remote string
	Local  string
	// TLS means that the request came over TLS, and ServerName is its SNI.
	TLS        bool
	ServerName string
	Header     map[string][][]byte
	Body       []byte
}

// SetHeader copies the headers. Their values need not be text.
func (r *Request) SetHeader(header http.Header) {
	r.Header = make(map[string][][]byte, len(header))
	for name, values := range header {
		for _, value := range values {
			r.Header[name] = append(r.Header[name], []byte(value))
		}
	}
}

// HTTPHeader returns a copy of the headers.
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

// decodeFrame decodes the data of an event that [encode] has encoded.
func decodeFrame(frame event.Frame, v any) error {
	_, rest, ok := bytes.Cut(frame, []byte("data: "))
	if !ok {
		return errors.New("the event has no data")
	}
	if err := json.Unmarshal(bytes.TrimSuffix(rest, []byte("\n\n")), v); err != nil {
		return fmt.Errorf("decoding the stored request: %w", err)
	}
	return nil
}
