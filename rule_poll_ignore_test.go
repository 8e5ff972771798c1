package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The viewers come through CloudFront, Azure and a mesh, each with ids of its own.
func TestViewersBehindNetworksThatNumberRequestsShareAView(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			switch {
			case strings.HasPrefix(name, "X-Forwarded-"), name == "Accept-Encoding", name == "User-Agent", name == "Accept", name == "Via", strings.HasSuffix(name, "-Ip"):
			case r.Header.Get(name) == "0.0.0.0":
			default:
				t.Errorf("the backend gets %s: %q", name, r.Header[name])
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "%q", r.URL.Path)
	})
	s := watchedSite(t, "servers {\n trusted_proxies static 127.0.0.1/32\n }", `
		sse /api/* {
			poll 1h {
				ignore X-Edge-*
			}
		}
		reverse_proxy `+backend)
	for i, protocol := range protocols {
		for n := range 3 {
			id := fmt.Sprint(i, n)
			s.open(protocol, "/api/doc?"+protocol, "X-Amz-Cf-Id", id, "X-Azure-Ref", id, "X-B3-TraceId", id, "X-Datadog-Trace-Id", id, "Fly-Request-Id", id, "X-Edge-Visit", id,
				"X-Forwarded-For", "203.0.113.7:"+id, "Fly-Client-IP", "203.0.113."+id).expect("", `"/api/doc"`)
		}
	}
	for _, v := range s.list("").Views {
		if v.Viewers != 3 {
			t.Errorf("a view of %s has %d viewers", v.Path, v.Viewers)
		}
	}
}

func TestListSaysWhichHeaderSeparatesViews(t *testing.T) {
	s := watchedSite(t, "", `
		sse /api/* {
			poll 1h
		}
		respond "1"`)
	for _, protocol := range protocols {
		path := "/api/" + protocol
		s.open(protocol, path, "X-Visit", "1")
		s.open(protocol, path, "X-Visit", "2")
	}
	_, body := s.requestAdmin("GET", "/sse/views")
	if n := strings.Count(body, `"differs_by":"X-Visit","advice":"if it says nothing about who asks, write `+"`ignore X-Visit`"+`"`); n != 6 {
		t.Errorf("%d views say so: %s", n, body)
	}
}
