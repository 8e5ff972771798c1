package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// On HTTP/2, net/http replaces Connection: close by a GOAWAY frame. On other
// versions, the handler must not set the header.
func TestEndedGroupClosesConnectionOnHTTP2Only(t *testing.T) {
	for major, want := range map[int]string{1: "", 2: "close", 3: ""} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, store.History{})
			group := new(stream.Group)
			for _, want := range []string{"", want} {
				r := get("/")
				r.ProtoMajor = major
				s := serve(stream.Subscribe(h, []string{"a"}, ""), r, group, options, newClient())
				synctest.Wait()
				if got := s.header.Get("Connection"); got != want {
					t.Errorf("HTTP/%d: Connection is %q, want %q", major, got, want)
				}
				group.End(time.Second)
				<-s.ended
			}
		})
	}
}
