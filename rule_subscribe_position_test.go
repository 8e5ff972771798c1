package caddysse_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
)

// The spellings are those of event-source-polyfill's default and of its option
// lastEventIdQueryParameterName, of this module and of Mercure.
var positionParameters = []string{"lastEventId", "Last-Event-ID", "last_event_id", "lastEventID"}

func TestReconnectWithPositionInQueryMissesNothing(t *testing.T) {
	s := startSite(t, "", fmt.Sprintf(pubsub, ""))
	first, second := s.publish("news", "1"), s.publish("news", "2")
	s.publish("news", "3")
	for _, protocol := range protocols {
		for _, name := range positionParameters {
			s.open(protocol, "/events/news?"+name+"="+second).expect("", "3")
			// The page has opened the URL with a position, and the library appends another.
			s.open(protocol, "/events/news?last_event_id="+first+"&"+name+"="+second).expect("", "3")
			s.open(protocol, "/events/news?"+name+"=%zz").expect("reset", `{"reason":"the position is not in the history"}`)
		}
	}
}

func TestPositionInQueryIsNoPartOfTheViewKey(t *testing.T) {
	var polls atomic.Int64
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		polls.Add(1)
		if r.URL.RawQuery != "a=1" {
			t.Errorf("the backend is asked for %q", r.URL.RawQuery)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"n":1}`)
	})
	s := startSite(t, "", "sse /doc {\n poll 1h\n }\n reverse_proxy "+backend)
	for _, protocol := range protocols {
		for _, name := range positionParameters {
			s.open(protocol, "/doc?a=1&"+name+"=old").next()
		}
	}
	if n := polls.Load(); n != 2 { // one for the HTTP site, one for the HTTPS site
		t.Errorf("the backend was polled %d times", n)
	}
}
