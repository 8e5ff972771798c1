package poll_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestNamedCookieIsSentAsItCame(t *testing.T) {
	for _, test := range []struct{ fields, want []string }{
		{[]string{`ads=17; session=ann`}, []string{`session=ann`}},
		{[]string{`session=ann; ads=4711`}, []string{`session=ann`}},
		{[]string{`session=ann;ads=1;session=bob`}, []string{`session=ann;session=bob`}},
		{[]string{`session=bob; ads=1; session=ann`}, []string{`session=bob; session=ann`}},
		{[]string{"ads=1;\tsession=ann\t"}, []string{`session=ann`}},
		{[]string{`session =ann`}, []string{`session =ann`}},
		{[]string{`session= ann ; ads=1`}, []string{`session= ann`}},
		{[]string{`session=a,b`}, []string{`session=a,b`}},
		{[]string{`session="a,b"`}, []string{`session="a,b"`}},
		{[]string{`session=a b`}, []string{`session=a b`}},
		{[]string{`session=`}, []string{`session=`}},
		{[]string{`session=""`}, []string{`session=""`}},
		{[]string{`session`}, []string{`session`}},
		{[]string{`session=a=b==`}, []string{`session=a=b==`}},
		{[]string{`session={"id":7,"name":"ann"}; ads=1`}, []string{`session={"id":7,"name":"ann"}`}},
		{[]string{`session=a\"b\`}, []string{`session=a\"b\`}},
		{[]string{"session=\xff\xc3\xa4"}, []string{"session=\xff\xc3\xa4"}},
		{[]string{`session=%3B+x`}, []string{`session=%3B+x`}},
		{[]string{`session=a`, `ads=1`, `ads=2; session=b`}, []string{`session=a`, `session=b`}},
		{[]string{`ads=1`, `Session=a; sessio=b; session2=c; =session; "session"=d`}, nil},
		{[]string{`;; ;session=a;;`}, []string{`session=a`}},
		{[]string{``}, nil},
	} {
		within(t, poll.Config{Vary: []string{"Cookie:session"}}, func(e *env) {
			r := newRequest("/doc")
			r.Header["Cookie"] = test.fields
			e.subscribe(r)
			if got := e.last().Header["Cookie"]; !slices.Equal(got, test.want) {
				t.Errorf("of %q the poll carries %q, want %q", test.fields, got, test.want)
			}
		})
	}
}

func TestCookiesThatDifferInAByteHaveSeparateViews(t *testing.T) {
	within(t, poll.Config{Vary: []string{"Cookie:sid"}}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			return document(fmt.Sprintf("%x", r.Header["Cookie"])), nil
		})
		all := []string{`sid=x,y`, `sid="x,y"`, `sid=x`, `sid="x"`, `sid=x y`, `sid=x\y`, "sid=x\xe4", `sid=`, `sid`}
		for range 2 {
			for _, cookie := range all {
				e.subscribe(newRequest("/doc", "Cookie", "ads=1; "+cookie)).want(t, fmt.Sprintf("%x", []string{cookie}))
			}
		}
		if e.Views() != len(all) {
			t.Errorf("%d views, want %d", e.Views(), len(all))
		}
	})
}

// FuzzCookies cuts cookies out of arbitrary Cookie fields.
func FuzzCookies(f *testing.F) {
	for _, s := range [][2]string{
		{`ads=17; session=ann`, ``},
		{`session={"a":"b,c"}`, `session=second; ads=1`},
		{"session=\xff;\tsession =\"a\\\"b\"", `;;= ;session`},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		fields := []string{one, two}
		kept := poll.NamedCookies(fields, "session")
		rest := strings.Join(fields, "\n")
		for _, b := range []byte(strings.Join(kept, "")) {
			i := strings.IndexByte(rest, b)
			if i < 0 {
				t.Fatalf("of %q is kept %q, which has other bytes", fields, kept)
			}
			rest = rest[i+1:]
		}
		want, got := namedPairs(fields), namedPairs(kept)
		if !slices.Equal(got, want) {
			t.Errorf("of %q is kept %q: the pairs %q, want %q", fields, kept, got, want)
		}
		for _, field := range kept {
			if n := len(namedPairs([]string{field})); n != strings.Count(field, ";")+1 {
				t.Errorf("of %q is kept %q, which has another cookie", fields, field)
			}
		}
		if again := poll.NamedCookies(kept, "session"); !slices.Equal(again, kept) {
			t.Errorf("of %q is kept %q, and of that %q", fields, kept, again)
		}
	})
}

// namedPairs returns the pairs of the cookie session, without the blanks around
// them.
func namedPairs(fields []string) (pairs []string) {
	for _, field := range fields {
		for _, pair := range strings.Split(field, ";") {
			pair = strings.Trim(pair, " \t")
			if name, _, _ := strings.Cut(pair, "="); strings.TrimRight(name, " \t") == "session" {
				pairs = append(pairs, pair)
			}
		}
	}
	return pairs
}
