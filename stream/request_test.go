package stream_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/stream"
)

func TestPositionHeaderOverridesQuery(t *testing.T) {
	for _, c := range []struct{ header, query, want string }{
		{"", "", ""},
		{"h", "", "h"},
		{"h", "last_event_id=q", "h"},
		{"h", "lastEventId=q", "h"},
		{"", "last_event_id=q", "q"},
		{"", "lastEventId=q", "q"},
		{"", "lastEventId=b&last_event_id=a", "a"},
		{"", "last_event_id=&lastEventId=b", "b"},
		{"", "last_event_id=a&lastEventId=", "a"},
		{"", "last_event_id=1&last_event_id=2", "2"},
		{"", "last_event_id=OLD&lastEventId=NEW", "NEW"}, // event-source-polyfill appends its own
		{"", "topic=a&Last-Event-ID=q", "q"},             // the same with lastEventIdQueryParameterName: 'Last-Event-ID'
		{"", "last-event-id=q", "q"},
		{"", "lastEventID=q", "q"}, // Mercure's
		{"", "LASTEVENTID=q", "q"},
		{"", "last%5Fevent%5Fid=q%2Dx", "q-x"},
		{"", "last_event_id=a;b", "a;b"},
		{"", "last_event_id=%zz", "%zz"},
		{"", "last_event_id=a%0Aid:b", "a\nid:b"},
		{"", "last_event=q", ""},
		{"", "last+event+id=q", ""},
		{"", "x=last_event_id", ""},
		{"", "%zz&last_event_id=q", "q"},
	} {
		r := get("/?" + c.query)
		if c.header != "" {
			r.Header.Set("Last-Event-ID", c.header)
		}
		if got := stream.LastEventID(r); got != c.want {
			t.Errorf("%q and %q: %q, want %q", c.header, c.query, got, c.want)
		}
	}
}

func TestPositionIsRemovedFromQuery(t *testing.T) {
	for query, want := range map[string]string{
		"":                                   "",
		"b=2&a=1":                            "b=2&a=1",
		"last_event_id=x":                    "",
		"lastEventId=x":                      "",
		"last_event_id":                      "",
		"b=2&last_event_id=x&a=1":            "b=2&a=1",
		"lastEventId=x&b=2&last_event_id=y":  "b=2",
		"last_event_id=x&last_event_id=y":    "",
		"last%5Fevent%5Fid=x&a=1":            "a=1",
		"last_e%76ent_id=x&a=1":              "a=1",
		"%6c%61%73%74EventId=x&a=1":          "a=1",
		"lastE%76%65%6e%74Id=x":              "",
		"event=1&events=%20":                 "event=1&events=%20",
		"a=last_event_id&xlast_event_id=1":   "a=last_event_id&xlast_event_id=1",
		"last_event_ID=1&lasteventid=2&b":    "b",
		"Last-Event-ID=1&b=2":                "b=2",
		"last%2devent%2DID=1&b=2":            "b=2",
		"last.event.id=1&lastevent=2":        "last.event.id=1&lastevent=2",
		"a=%7e&&b&c=&event=%zz":              "a=%7e&&b&c=&event=%zz",
		"last_event_id%zz=1":                 "last_event_id%zz=1",
		"q=a+b&last+event_id=1&lastEventId=": "q=a+b&last+event_id=1",
	} {
		if got := stream.WithoutPosition(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}

func accept(values ...string) http.Header { return http.Header{"Accept": values} }

func TestAcceptAndPreferStream(t *testing.T) {
	for _, c := range []struct {
		accept           []string
		accepts, prefers bool
	}{
		{nil, true, false},
		{[]string{"text/event-stream"}, true, true},
		{[]string{"Text/Event-Stream"}, true, true},
		{[]string{"text/event-stream; charset=utf-8"}, true, true},
		{[]string{"text/event-stream;q=0.1"}, true, true},
		{[]string{"text/event-stream;q=0"}, false, false},
		{[]string{"text/event-stream;q=0, */*"}, false, false},
		{[]string{"*/*"}, true, false},
		{[]string{"*/*;q=0"}, false, false},
		{[]string{"text/*"}, true, false},
		{[]string{"text/*;q=0, */*"}, false, false},
		{[]string{"application/*"}, false, false},
		{[]string{"application/json"}, false, false},
		{[]string{"application/json", "text/event-stream"}, true, false},
		{[]string{"application/json, text/event-stream"}, true, false}, // MCP clients
		{[]string{"text/event-stream, application/json"}, true, true},
		{[]string{"text/event-stream;q=0.9, application/json;q=0.9"}, true, true},
		// urql
		{[]string{"application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"}, true, false},
		{[]string{"application/json, text/event-stream;q=0.9"}, true, false},
		{[]string{"application/json;q=0.5, text/event-stream"}, true, true},
		{[]string{"text/event-stream, */*;q=0.1"}, true, true},
		{[]string{"text/event-stream, */*"}, true, true},
		{[]string{"text/event-stream;q=0.5, */*"}, true, false},
		{[]string{"*/*, text/event-stream"}, true, false},
		{[]string{"text/*, text/event-stream"}, true, false},
		{[]string{"*/*;q=0.8, text/event-stream"}, true, true},
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, true, false},
		{[]string{"text/event-stream-x"}, false, false},
		{[]string{"text/event-stream;q=x"}, false, false},
		{[]string{",,text/event-stream,"}, true, true},
		{[]string{"garbage, text/event-stream"}, true, true},
	} {
		if got := stream.Accepts(accept(c.accept...)); got != c.accepts {
			t.Errorf("%q accepts a stream: %v", c.accept, got)
		}
		if got := stream.Prefers(accept(c.accept...)); got != c.prefers {
			t.Errorf("%q prefers a stream: %v", c.accept, got)
		}
	}
}

func TestOtherTypesExcludeStream(t *testing.T) {
	for value, want := range map[string]string{
		"":                                    "",
		"text/event-stream":                   "",
		"TEXT/event-stream;q=0.9":             "",
		"text/event-stream, application/json": "application/json",
		"application/json;q=0.5 ,text/*":      "application/json;q=0.5 ,text/*",
		"text/event-stream, */*;q=0.1":        "*/*;q=0.1",
		", a/b, ,\ttext/plain;,":              "a/b,\ttext/plain;",
		" , ,":                                "",
	} {
		if got := stream.OtherTypes(accept(value)); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if got := stream.OtherTypes(accept("a/b", "text/event-stream", "c/d")); got != "a/b,c/d" {
		t.Errorf("several headers: %q", got)
	}
}

func TestOtherTypesKeepElementsThatCannotBeParsed(t *testing.T) {
	for value, want := range map[string]string{
		"application/ld+json;profile=https://a.example, text/event-stream": "application/ld+json;profile=https://a.example",
		"text/event-stream;q=, a/b/c":                                      "a/b/c",
		"text/event-stream, a/b;q=1;q=0.5, \xe4":                           "a/b;q=1;q=0.5, \xe4",
	} {
		if got := stream.OtherTypes(accept(value)); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// WithoutPosition removes the position and nothing else from any query.
func FuzzPosition(f *testing.F) {
	for _, q := range []string{"", "last_event_id=1&a=2", "lastEventId", "%6castEventId=%31&&=;", "last_e%76ent_id=1", "a=%zz&lastEventId=1", "+=&last%5Fevent_id"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		rest := stream.WithoutPosition(query)
		if twice := stream.WithoutPosition(rest); twice != rest {
			t.Errorf("%q, then %q", rest, twice)
		}
		r := &http.Request{URL: &url.URL{RawQuery: rest}}
		if id := stream.LastEventID(r); id != "" {
			t.Errorf("%q still has the position %q", rest, id)
		}
		want, _ := url.ParseQuery(query)
		want.Del("last_event_id")
		want.Del("lastEventId")
		got, _ := url.ParseQuery(rest)
		if got.Encode() != want.Encode() {
			t.Errorf("%q has become %q", query, rest)
		}
	})
}

func FuzzAccept(f *testing.F) {
	for _, a := range []string{"text/event-stream", "a/b;q=0.5, text/event-stream", "*/*;q=NaN", "text/event-stream;q=inf", `a/b;c=",text/event-stream"`} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h := accept(value)
		if stream.Prefers(h) && !stream.Accepts(h) {
			t.Errorf("%q prefers a stream that it doesn't accept", value)
		}
		others := stream.OtherTypes(h)
		if stream.Prefers(accept(others)) || strings.ContainsAny(others, "\r\n") && !strings.ContainsAny(value, "\r\n") {
			t.Errorf("%q: the other types are %q", value, others)
		}
	})
}

// The Accept headers of axios and of a browser's address bar.
const (
	axios      = "application/json, text/plain, */*"
	navigation = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
)

func TestPrefersTypeUnlessAnotherHasMoreWeight(t *testing.T) {
	const contentType = "application/json; charset=utf-8"
	for _, c := range []struct {
		accept     string
		any, named bool
	}{
		{axios, true, true},
		{"*/*", true, false},
		{"application/*", true, false},
		{"application/json", true, true},
		{"Application/JSON", true, true},
		{"application/json;q=0.5", true, true},
		{"text/html, application/json", true, true},
		{"text/html, application/json;q=0.9", false, false},
		{"text/html, */*", true, false},
		{navigation, false, false},
		{"text/html", false, false},
		{"application/json;q=0, */*", false, false},
		{"application/json;q=nonsense", false, false},
		{"garbage", false, false},
		{"text/event-stream, application/json", true, true},
	} {
		for named, want := range map[bool]bool{false: c.any, true: c.named} {
			if got := stream.PrefersType(accept(c.accept), contentType, named); got != want {
				t.Errorf("%q, named %v: %v", c.accept, named, got)
			}
		}
	}
	if !stream.PrefersType(http.Header{}, contentType, false) || stream.PrefersType(http.Header{}, contentType, true) {
		t.Error("a request without Accept accepts each type, but names none")
	}
	for _, contentType := range []string{"", ";", "json,"} {
		if stream.PrefersType(accept("*/*"), contentType, false) {
			t.Errorf("the invalid type %q is preferred", contentType)
		}
	}
}

func FuzzPrefers(f *testing.F) {
	for _, a := range []string{"", axios, navigation, "*/*;q=NaN", "application/json;q=1e400", "application/json;q=-1", "a/b;c=\",application/json\"", ",,;q="} {
		f.Add(a, "application/json")
		f.Add(a, a)
	}
	f.Fuzz(func(t *testing.T, value, mediaType string) {
		h := accept(value)
		named, free := stream.PrefersType(h, mediaType, true), stream.PrefersType(h, mediaType, false)
		if named && !free {
			t.Errorf("%q prefers %q if named, but not otherwise", value, mediaType)
		}
		if named && !strings.Contains(strings.ToLower(value), strings.ToLower(strings.TrimSpace(strings.Split(mediaType, ";")[0]))) {
			t.Errorf("%q doesn't name %q", value, mediaType)
		}
	})
}

// HTTP/2's header compression lets a client expand a few hundred bytes to many
// headers. The cost of parsing them is limited.
func TestAcceptHeaderIsParsedUpToLimit(t *testing.T) {
	long := strings.Repeat("a/b,", 1000)
	for name, values := range map[string][]string{
		"one header":   {long + "text/event-stream"},
		"many headers": append(slices.Repeat([]string{"a/b"}, 1000), "text/event-stream"),
	} {
		h := http.Header{"Accept": values}
		if stream.Prefers(h) || stream.Accepts(h) || stream.PrefersType(h, "text/event-stream", true) {
			t.Errorf("%s: the end is parsed", name)
		}
		if others := stream.OtherTypes(h); len(others) > 3<<10 {
			t.Errorf("%s: %d bytes are passed on", name, len(others))
		}
	}
	if h := (http.Header{"Accept": {"text/event-stream, " + long}}); !stream.Prefers(h) {
		t.Error("the beginning is not parsed")
	}
}
