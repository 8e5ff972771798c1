package diff

import (
	"strings"
	"testing"
)

func TestChangeThatNamesPrototypeIsSentWhole(t *testing.T) {
	for _, name := range []string{`__proto__`, `constructor`, `prototype`, `\u005f_proto__`, `constru\u0063tor`} {
		in := func(s string) string { return strings.ReplaceAll(s, "NAME", name) }
		for _, tc := range []struct{ mode, old, now string }{
			{"patch", `{"NAME":1}`, `{"NAME":2}`},
			{"patch", `{"a":1}`, `{"a":1,"NAME":2}`},
			{"patch", `{"a":1,"NAME":2}`, `{"a":1}`},
			{"patch", `{"a":{"NAME":{"b":[1]}}}`, `{"a":{"NAME":{"b":[2]}}}`},
			{"patch", `{"a":[{"b":1},{"NAME":1}]}`, `{"a":[{"b":2},{"NAME":2}]}`},
			{"merge", `{"NAME":1}`, `{"NAME":2}`},
			{"merge", `{"NAME":1,"a":1}`, `{"a":1}`},
			{"merge", `{"a":{"NAME":{"b":1}}}`, `{"a":{"NAME":{"b":2}}}`},
			{"merge", `{"a":1}`, `{"a":1,"b":{"c":{"NAME":1}}}`},
			{"items", `[]`, `[{"id":"NAME"}]`},
			{"items", `[{"id":"NAME"}]`, `[]`},
			{"items", `[{"id":"NAME","n":1},{"id":1}]`, `[{"id":"NAME","n":2},{"id":1}]`},
		} {
			argument := map[string]string{"items": "id"}[tc.mode]
			old, now := in(tc.old), in(tc.now)
			if tc.mode != "items" { // so that a patch would be shorter
				old, now = `{"v":`+old+`,`+padding+`}`, `{"v":`+now+`,`+padding+`}`
			}
			if got := eventLines(t, mode(t, tc.mode, argument), old, now); got != now {
				t.Errorf("%s: %s to %s is sent as %s", tc.mode, old, now, got)
			}
		}
	}
}

// Only what an event has to name counts, not what it carries.
func TestChangeBesidePrototypesNameIsNoReasonForWholeDocument(t *testing.T) {
	for _, tc := range []struct{ mode, old, now, want string }{
		{"patch", `{"a":1,"__proto__":1}`, `{"a":2,"__proto__":1}`, `patch [{"op":"replace","path":"/v/a","value":2}]`},
		{"patch", `{"a":1}`, `{"a":{"__proto__":1}}`, `patch [{"op":"replace","path":"/v/a","value":{"__proto__":1}}]`},
		{"patch", `{"proto":"__proto__","pad":"` + strings.Repeat("x", 200) + `"}`, `{"proto":"constructor","pad":"` + strings.Repeat("x", 200) + `"}`, `patch [{"op":"replace","path":"/v/proto","value":"constructor"}]`},
		{"merge", `{"a":1,"__proto__":1}`, `{"a":2,"__proto__":1}`, `merge {"v":{"a":2}}`},
		{"merge", `{"a":1}`, `{"a":[{"__proto__":1}]}`, `merge {"v":{"a":[{"__proto__":1}]}}`},
	} {
		wrap := func(s string) string { return `{"v":` + s + `,` + padding + `}` }
		if got := eventLines(t, mode(t, tc.mode, ""), wrap(tc.old), wrap(tc.now)); got != tc.want {
			t.Errorf("%s: %s to %s is sent as %s", tc.mode, tc.old, tc.now, got)
		}
	}
	if got := eventLines(t, mode(t, "items", "id"), `[{"id":"__proto__"},{"id":1}]`, `[{"id":"__proto__"}]`); got != `removed {"key":1,"old":{"id":1}}` {
		t.Error(got)
	}
}
