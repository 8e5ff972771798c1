package caddysse_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	caddysse "github.com/caddy-sse/caddy-sse"
)

// trickle is a body that sends a byte now and then and never ends.
type trickle struct{ ended <-chan struct{} }

func (b trickle) Read(p []byte) (int, error) {
	select {
	case <-b.ended:
		return 0, io.ErrUnexpectedEOF
	case <-time.After(50 * time.Millisecond):
		p[0] = ' '
		return 1, nil
	}
}

func TestTricklingBodyIsRefused(t *testing.T) {
	caddysse.SetBodyTime(t, time.Second)
	backend := startBackend(t, newDocument(`1`).ServeHTTP)
	s := startSite(t, "", `
		sse /hook {
			webhook {
				verify none
				topic news
			}
		}
		sse /publish {
			publish {
				token 0123456789abcdef0123456789abcdef
			}
		}
		sse /query {
			poll 1h {
				method POST
			}
		}
		reverse_proxy `+backend)
	for _, protocol := range protocols {
		for _, path := range []string{"/hook", "/publish", "/query"} {
			t.Run(protocol+path, func(t *testing.T) {
				ended := make(chan struct{})
				defer close(ended)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url(protocol, path), trickle{ended})
				if err != nil {
					t.Fatal(err)
				}
				for name, value := range map[string]string{
					"Accept": "text/event-stream", "Content-Type": "application/json",
					"Authorization": "Bearer 0123456789abcdef0123456789abcdef",
				} {
					req.Header.Set(name, value)
				}
				resp, err := s.client(protocol).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusRequestTimeout {
					t.Errorf("got %s, want 408", resp.Status)
				}
			})
		}
	}
}
