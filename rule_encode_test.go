package caddysse_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

// TestStreamsAreCompressedOnce: by the rule, over each protocol, and not again by an
// encode directive around it.
func TestStreamsAreCompressedOnce(t *testing.T) {
	document := fmt.Sprintf(`{"orders":[%s1]}`, strings.Repeat(`{"status":"shipped"},`, 100))
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, document)
	})
	for name, around := range map[string]string{
		"alone":            "",
		"encode":           "encode zstd gzip",
		"encode all types": "encode {\n zstd\n gzip\n minimum_length 1\n match {\n header Content-Type *\n }\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, "", around+`
				sse /events {
					topic t
					encode gzip
				}
				sse /publish {
					publish {
						token `+publishToken+`
					}
				}
				sse /orders {
					poll 60s
					encode gzip
				}
				reverse_proxy `+backend)
			for _, protocol := range protocols {
				for accept, coding := range map[string][]string{"gzip, zstd": {"gzip"}, "zstd": nil, "gzip;q=0": nil, "identity": nil} {
					events := s.openEncoded(t, protocol, "/events", accept, coding)
					if resp := s.do("POST", "/publish", "topic=t&data="+document, "Authorization", "Bearer "+publishToken, "Content-Type", "application/x-www-form-urlencoded"); resp.StatusCode != http.StatusOK {
						t.Fatal(resp.Status, resp.body)
					}
					for _, d := range []*eventtest.Decoder{events, s.openEncoded(t, protocol, "/orders", accept, coding)} {
						if e, err := d.Next(); err != nil || string(e.Data) != document {
							t.Errorf("%s, %s: got %.50q, %v", protocol, accept, e.Data, err)
						}
					}
					head := s.doOver(protocol, "HEAD", "/events", "", "Accept", "text/event-stream", "Accept-Encoding", accept)
					wantEncoding(t, head.Response, coding)
				}
			}
		})
	}
}

// openEncoded opens a stream whose Content-Encoding must be coding.
func (s *site) openEncoded(t *testing.T, protocol, path, accept string, coding []string) *eventtest.Decoder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	resp, err := s.send(ctx, protocol, "GET", path, "", "Accept", "text/event-stream", "Accept-Encoding", accept)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	wantEncoding(t, resp, coding)
	if coding == nil {
		return eventtest.NewDecoder(resp.Body, 0)
	}
	r, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return eventtest.NewDecoder(r, 0)
}

func wantEncoding(t *testing.T, resp *http.Response, coding []string) {
	t.Helper()
	if got := resp.Header["Content-Encoding"]; resp.StatusCode != http.StatusOK || !slices.Equal(got, coding) {
		t.Errorf("%s %s: %s, Content-Encoding is %q, want %q", resp.Proto, resp.Request.URL, resp.Status, got, coding)
	}
	if vary := strings.Join(resp.Header["Vary"], ", "); !strings.Contains(vary, "Accept-Encoding") {
		t.Errorf("%s %s: Vary is %q", resp.Proto, resp.Request.URL, vary)
	}
}
