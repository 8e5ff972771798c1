package caddysse_test

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"testing"
	"time"
)

func TestSignatureCoversRequestBeforeRewrites(t *testing.T) {
	s := startSite(t, "", `
	handle_path /shop/* {
		sse /hooks {
			webhook {
				verify hmac "`+secret+`" {
					header X-Signature
					prefix v1=
					separator ,
					timestamp_prefix t=
					signed "{timestamp} {method} {url} {host} {path} {query} {body}"
				}
				topic hooks
			}
		}
		sse /orders {
			webhook {
				verify woocommerce "`+secret+`"
			}
		}
	}
	sse /events {
		topic hooks
	}`)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			c := s.open(protocol, "/events")
			now := strconv.FormatInt(time.Now().UnixMilli(), 10)
			body := `{"over":"` + protocol + `"}`
			signed := now + " POST " + s.url(protocol, "/shop/hooks?a=%2f") + " localhost /shop/hooks a=%2f " + body
			header := "v1=" + hex.EncodeToString(signature("other")) + ",t=" + now + ",v1=" + hex.EncodeToString(signature(signed))
			if resp := s.doOver(protocol, "POST", "/shop/hooks?a=%2f", body, "X-Signature", header); resp.StatusCode != http.StatusAccepted {
				t.Fatalf("got %s %s", resp.Status, resp.body)
			}
			if resp := s.doOver(protocol, "POST", "/shop/hooks?a=/", body, "X-Signature", header); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("another query: %s %s", resp.Status, resp.body)
			}
			c.expect("", body)
			resp := s.doOver(protocol, "POST", "/shop/orders", "webhook_id=1", "Content-Type", "application/x-www-form-urlencoded")
			if resp.StatusCode != http.StatusOK || resp.body != "" {
				t.Errorf("WooCommerce's ping: %s %q", resp.Status, resp.body)
			}
		})
	}
}
