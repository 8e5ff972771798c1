package poll_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// FuzzHeaders parses arbitrary Cache-Control, Vary and Accept headers.
func FuzzHeaders(f *testing.F) {
	for _, s := range [][3]string{
		{"public", "", "*/*"},
		{"max-age=0, Public ,", "Accept, *", "application/json, text/plain, */*"},
		{"public, private=\"x, y\"", "cookie", "text/html,*/*;q=0.8"},
		{"no-store,,public=", "Accept-Encoding,\tX-Y", "application/json;q=NaN"},
		{",;=\"", "AUTHORIZATION", "\xff/\x00"},
		{`no-cache="Set-Cookie, max-age=60", x="\", public`, "", ""},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, control, vary, accept string) {
		answer := http.Header{"Cache-Control": {control}, "Vary": {vary}, "Content-Type": {"application/json"}}
		for _, name := range []string{"Cache-Control", "Vary"} {
			for _, member := range poll.ListMembers(answer, name) {
				if member == "" || strings.Contains(member, ",") || strings.TrimSpace(member) != member {
					t.Errorf("%q has the member %q", answer.Get(name), member)
				}
			}
		}
		for _, against := range []string{"no-store", "No-Cache", "s-maxage=0"} {
			h := answer.Clone()
			h.Add("Cache-Control", against)
			if d := poll.Freshness(h); d != 0 {
				t.Errorf("%v is fresh for %v", h, d)
			}
		}
		lower := strings.ToLower(control)
		if poll.IsCacheableForAll(answer) && (!strings.Contains(lower, "public") || strings.Contains(vary, "*") && strings.TrimSpace(vary) == "*") {
			t.Errorf("%q with Vary %q is for all", control, vary)
		}
		for _, against := range []struct{ name, value string }{{"Cache-Control", "private"}, {"Cache-Control", "No-Store"}, {"Vary", "cookie"}, {"Vary", "*"}, {"Set-Cookie", "a=b"}} {
			h := answer.Clone()
			h.Add(against.name, against.value)
			if poll.IsCacheableForAll(h) {
				t.Errorf("%v is for all", h)
			}
		}
		request := http.Header{"Accept": {accept}}
		if poll.Satisfies(request, answer) {
			h := answer.Clone()
			h.Add("Vary", "*")
			if poll.Satisfies(request, h) {
				t.Errorf("%v is given, whatever it varies by", h)
			}
			h = answer.Clone()
			h.Set("Content-Type", "")
			if poll.Satisfies(request, h) {
				t.Error("what has no type is given")
			}
		}
	})
}
