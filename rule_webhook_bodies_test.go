package caddysse_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The bytes are those of .NET's serializers, which begin with a byte order mark.
func TestWebhookWithByteOrderMarkIsPublishedWithoutIt(t *testing.T) {
	s := startSite(t, "", senders)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			c := s.open(protocol, "/events")
			body := "\ufeff" + `{"kind":"paid","order":{"id":1},"over":"` + protocol + `"}`
			if resp := s.doOver(protocol, "POST", "/hooks/shop", body, fromShop(body)...); resp.StatusCode != http.StatusAccepted {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
			c.expect("paid", strings.TrimPrefix(body, "\ufeff"))
			broken := `{"kind":"paid","order":{"id":1},"load":NaN}`
			resp := s.doOver(protocol, "POST", "/hooks/shop", broken, append(fromShop(broken), "Content-Type", "application/json")...)
			if resp.StatusCode != http.StatusBadRequest || resp.body != "the body isn't JSON: see its byte 40\n" {
				t.Errorf("got %s %q", resp.Status, resp.body)
			}
		})
	}
}

// A form of PayPal's kind, and JSON as .NET and old PHP send it. The signature
// covers the bytes as they came.
func TestWebhookIsPublishedInUTF8WhateverItsCharset(t *testing.T) {
	s := startSite(t, "", senders+`
	sse /hooks/form {
		webhook {
			verify token X-Token "`+secret+`"
			topic  orders/{form.order}
			select .
		}
	}
	sse /publish {
		publish {
			token "`+secret+`"
		}
	}`)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			c := s.open(protocol, "/events")
			send := func(path, body, contentType string, header ...string) response {
				t.Helper()
				return s.doOver(protocol, "POST", path, body, append(header, "Content-Type", contentType)...)
			}
			body := "{\"kind\":\"paid\",\"order\":{\"id\":1},\"city\":\"K\xf6ln\",\"over\":\"" + protocol + "\"}"
			if resp := send("/hooks/shop", body, "application/json; charset=ISO-8859-1", fromShop(body)...); resp.StatusCode != http.StatusAccepted {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
			c.expect("paid", strings.ReplaceAll(body, "\xf6", "ö"))
			form := "order=1&price=5+%80&city=K%F6ln"
			if resp := send("/hooks/form", form, "application/x-www-form-urlencoded; charset=windows-1252", "X-Token", secret); resp.StatusCode != http.StatusAccepted {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
			c.expect("", `{"city":"Köln","order":"1","price":"5 €"}`)
			event := "{\"topic\":\"orders/1\",\"data\":\"K\xf6ln\"}"
			if resp := send("/publish", event, "application/json; charset=iso-8859-1", "Authorization", "Bearer "+secret); resp.StatusCode != http.StatusOK {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
			c.expect("", `"Köln"`)
			for _, path := range []string{"/hooks/shop", "/publish"} {
				resp := send(path, body, "application/json; charset=ebcdic-cp-us", append(fromShop(body), "Authorization", "Bearer "+secret)...)
				if resp.StatusCode != http.StatusUnsupportedMediaType || resp.body != "the charset \"ebcdic-cp-us\" is unknown: send UTF-8\n" {
					t.Errorf("%s: got %s %q", path, resp.Status, resp.body)
				}
			}
		})
	}
}

func TestGitHubPingPublishesNothingWhateverTheTopicNeeds(t *testing.T) {
	s := startSite(t, "", senders)
	c := s.open("HTTP/2.0", "/events")
	ping := `{"zen":"Design for failure.","hook_id":1,"hook":{"type":"App"}}`
	header := fromGitHub(ping)
	header[3] = "ping"
	if resp := s.do("POST", "/hooks/github", ping, header...); resp.StatusCode != http.StatusNoContent || resp.body != "" {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
	event := `{"action":"opened","issue":{"number":7},"repository":{"full_name":"a/b"}}`
	if resp := s.do("POST", "/hooks/github", event, fromGitHub(event)...); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("got %s %s", resp.Status, resp.body)
	}
	c.expect("issues", `{"action":"opened","number":7}`) // the first event
}

// A client that begins large deliveries and never ends them holds at most half of
// what all of them may hold, in all rules together. Others go on.
func TestLargeWebhooksAreLimitedInSumOfAllRules(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/first {
		webhook {
			verify github "`+secret+`"
			data x
		}
	}
	sse /hooks/second {
		webhook {
			verify github "`+secret+`"
			data x
		}
	}`)
	chunk := []byte(strings.Repeat("x", 1<<20))
	statuses := make(chan int, 4)
	bodies := make([]*io.PipeWriter, 0, 4)
	for _, path := range []string{"/hooks/first", "/hooks/second", "/hooks/first", "/hooks/second"} {
		reader, writer := io.Pipe()
		bodies = append(bodies, writer)
		// Over HTTP/1.1, the refusal may be lost with the connection that the client still writes to.
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("HTTP/2.0", path), reader)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			resp, err := s.client("HTTP/2.0").Do(r)
			if err != nil {
				statuses <- 0
				return
			}
			_ = resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	for range 24 {
		for _, body := range bodies {
			_, _ = body.Write(chunk) // the body that is refused is closed
		}
	}
	if status := <-statuses; status != http.StatusServiceUnavailable {
		t.Errorf("96 MiB of one client: %d, want 503", status)
	}
	small := `{"a":1}`
	if resp := s.do("POST", "/hooks/first", small, fromGitHub(small)...); resp.StatusCode != http.StatusAccepted {
		t.Errorf("a small body: %s %s", resp.Status, resp.body)
	}
	for _, body := range bodies {
		_ = body.CloseWithError(io.ErrUnexpectedEOF)
	}
	for range 3 {
		<-statuses
	}
	large := `{"a":"` + strings.Repeat("x", 20<<20) + `"}`
	for range 8 { // a delivery that is over holds nothing
		if resp := s.do("POST", "/hooks/second", large, fromGitHub(large)...); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("afterwards: %s %s", resp.Status, resp.body)
		}
	}
}

func TestGitHubsDefaultContentTypeIsReadAsJSON(t *testing.T) {
	s := startSite(t, "", senders)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			c := s.open(protocol, "/events")
			send := func(payload string) response {
				form := "payload=" + url.QueryEscape(payload)
				return s.doOver(protocol, "POST", "/hooks/github", form, append(fromGitHub(form), "Content-Type", "application/x-www-form-urlencoded")...)
			}
			if resp := send(`{"zen":"x","repository":{"full_name":"a/b"}}`); resp.StatusCode != http.StatusUnprocessableEntity || !strings.HasPrefix(resp.body, "select can read nothing") {
				t.Errorf("got %s %q", resp.Status, resp.body)
			}
			if resp := send(`{"action":"opened","issue":{"number":7},"repository":{"full_name":"a/b"},"over":"` + protocol + `"}`); resp.StatusCode != http.StatusAccepted {
				t.Fatalf("got %s %q", resp.Status, resp.body)
			}
			c.expect("issues", `{"action":"opened","number":7}`) // the first event
		})
	}
}
