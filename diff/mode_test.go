package diff

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/jq"
)

func TestUnknownModeErrorSaysWhatToWrite(t *testing.T) {
	for _, tc := range []struct{ word, arg, want string }{
		{"", "", `send: unknown way ""; use full, patch, merge, items <key> or jq <program>`},
		{"diff", "", `send: unknown way "diff"; use full, patch, merge, items <key> or jq <program>`},
		{"full", "x", `send: "full" takes nothing after it, but there is "x"`},
		{"patch", "x", `send: "patch" takes nothing after it`},
		{"merge", "x", `send: "merge" takes nothing after it`},
		{"items", "", `say: items id`},
		{"items", "a..b", `say: items meta.id`},
		{"items", ".id", `a member's name is empty`},
		{"jq", "", "say: jq `{event:"},
		{"jq", ".a |", "send: jq program `.a |`: unexpected EOF"},
	} {
		if _, err := NewMode(tc.word, tc.arg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: %v, want %q", tc.word, tc.arg, err, tc.want)
		}
	}
}

func TestModeStringIsItsConfiguration(t *testing.T) {
	for _, words := range [][2]string{{"full", ""}, {"items", "meta.id"}, {"jq", "empty"}} {
		if got, want := mode(t, words[0], words[1]).String(), strings.TrimSpace(words[0]+" "+words[1]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestOnlyFullModeIsNotIncremental(t *testing.T) {
	for _, m := range modes(t) {
		if m.Incremental() == (m.String() == "full") {
			t.Errorf("%s: %v", m, m.Incremental())
		}
	}
}

func modes(t testing.TB) []*Mode {
	return []*Mode{mode(t, "full", ""), mode(t, "patch", ""), mode(t, "merge", ""), mode(t, "items", "id"), mode(t, "jq", `{event: "whole", data: .new}`)}
}

func TestEqualDocumentsGiveNoEvents(t *testing.T) {
	for _, m := range modes(t) {
		if got := eventLines(t, m, `[{"id":1,"a":1.0}]`, ` [{"a":10e-1, "id":1}]`); got != "" {
			t.Errorf("%s gives %s", m, got)
		}
	}
}

func TestClientWithoutDocumentGetsSnapshot(t *testing.T) {
	for _, m := range modes(t) {
		events, err := m.Events(t.Context(), nil, parse(t, ` { "b" : 1.0 } `))
		if err != nil || len(events) != 1 || events[0].Name != "" || string(events[0].Data) != `{"b":1.0}` {
			t.Errorf("%s: %v, %v", m, events, err)
		}
	}
}

func TestFullModeSendsDocumentUnchanged(t *testing.T) {
	if got := eventLines(t, mode(t, "full", ""), `1`, ` { "z" : 1.50, "a" : 9007199254740993 } `); got != `{"z":1.50,"a":9007199254740993}` {
		t.Error(got)
	}
}

// padding makes a document longer than its patch.
var padding = `"padding":"` + strings.Repeat("x", 500) + `"`

func TestPatchDescribesChange(t *testing.T) {
	for _, tc := range []struct{ old, now, want string }{
		{`{"a":1}`, `{"a":2}`, `{"op":"replace","path":"/v/a","value":2}`},
		{`{}`, `{"a":null}`, `{"op":"add","path":"/v/a","value":null}`},
		{`{"a":{"b":1}}`, `{"a":{}}`, `{"op":"remove","path":"/v/a/b"}`},
		{`1`, `{ "z" : 1.0 , "a" : [ 1 ] }`, `{"op":"replace","path":"/v","value":{"z":1.0,"a":[1]}}`},
		{`9007199254740992`, `9007199254740993`, `{"op":"replace","path":"/v","value":9007199254740993}`},
		{`0.1`, `0.1000000000000000055`, `{"op":"replace","path":"/v","value":0.1000000000000000055}`},
		{`1`, `1e1000000000`, `{"op":"replace","path":"/v","value":1e1000000000}`},
		{`{"a":1.0,"b":1}`, `{"a":1,"b":2}`, `{"op":"replace","path":"/v/b","value":2}`},
		{`{"":1}`, `{"":2}`, `{"op":"add","path":"/v/","value":2}`},
		{`{"":[1,2]}`, `{"":[1,3]}`, `{"op":"add","path":"/v/","value":[1,3]}`},
		{`{"a/b~c":1}`, `{"a/b~c":2}`, `{"op":"replace","path":"/v/a~1b~0c","value":2}`},
		{`{"\/":1}`, `{"\u007e\"\u2028":2,"\u002f":1}`, `{"op":"add","path":"/v/~0\"\u2028","value":2}`},
		{`"<"`, `"<b>&"`, `{"op":"replace","path":"/v","value":"<b>&"}`},
		{`[1,2,3]`, `[0,1,2,3]`, `{"op":"add","path":"/v/0","value":0}`},
		{`["item 1","item 2","item 3","item 4"]`, `["item 1","item 3","item 4","item 5"]`, `{"op":"remove","path":"/v/1"},{"op":"add","path":"/v/3","value":"item 5"}`},
		{`[{"id":1,"title":"the first","n":1},{"id":2,"title":"the second","n":1}]`, `[{"id":3,"n":1},{"id":1,"title":"the first","n":1},{"id":2,"title":"the second","n":2}]`,
			`{"op":"add","path":"/v/0","value":{"id":3,"n":1}},{"op":"replace","path":"/v/2/n","value":2}`},
		{`{"a":1,"b":2,"c":3}`, `{"x":1}`, `{"op":"replace","path":"/v","value":{"x":1}}`},
		{`[1,2,3,4,5,6]`, `[]`, `{"op":"replace","path":"/v","value":[]}`},
	} {
		old, now := `{"v":`+tc.old+`,`+padding+`}`, `{"v":`+tc.now+`,`+padding+`}`
		if got := eventLines(t, mode(t, "patch", ""), old, now); got != `patch [`+tc.want+`]` {
			t.Errorf("from %s to %s got %s, want %s", tc.old, tc.now, got, tc.want)
		}
	}
}

func TestListsWithManyEditsAreComparedByIndex(t *testing.T) {
	const n, same = 2 * maxEdits, "this is long, and the same in the old list and in the new one, whatever the id"
	old := parse(t, `[`+numbered(n, `{"id":%,"text":"`+same+`"},9`)+`]`)
	now := parse(t, `[`+numbered(n, `{"id":-%,"text":"`+same+`"},9`)+`]`)
	events, err := mode(t, "patch", "").Events(t.Context(), old, now)
	if err != nil || len(events) != 1 || strings.Count(string(events[0].Data), `"op":"replace"`) != n {
		t.Errorf("%.200s, %v", events[0].Data, err)
	}
}

func TestMergeDescribesChange(t *testing.T) {
	for _, tc := range []struct{ old, now, want string }{
		{`{"a":1}`, `{"a":2}`, `{"v":{"a":2}}`},
		{`{"a":{"b":1,"c":1}}`, `{"a":{"c":1}}`, `{"v":{"a":{"b":null}}}`},
		{`{"a":1}`, `{}`, `{"v":{"a":null}}`},
		{`[1]`, `{}`, `{"v":{}}`},
		{`1`, `{"b":{"c":1}}`, `{"v":{"b":{"c":1}}}`},
		{`[1,2,3]`, `[1,null,{"a":null}]`, `{"v":[1,null,{"a":null}]}`},
		{`{"n":null,"a":1}`, `{"n":null,"a":2}`, `{"v":{"a":2}}`},
		{`{"n":null,"a":1}`, `{"a":9007199254740993}`, `{"v":{"n":null,"a":9007199254740993}}`},
		{`0`, `0.1000000000000000055`, `{"v":0.1000000000000000055}`},
	} {
		old, now := `{"v":`+tc.old+`,`+padding+`}`, `{"v":`+tc.now+`,`+padding+`}`
		if got := eventLines(t, mode(t, "merge", ""), old, now); got != `merge `+tc.want {
			t.Errorf("from %s to %s got %s, want %s", tc.old, tc.now, got, tc.want)
		}
	}
}

func TestInexpressibleChangeSendsSnapshot(t *testing.T) {
	for _, tc := range []struct{ word, old, now string }{
		{"patch", `1`, `2`},
		{"patch", `{"a":1}`, `{"a":2}`}, // shorter than a patch
		{"patch", `{"\ud800":1,` + padding + `}`, `{"\ud800":2,` + padding + `}`},
		{"patch", `{"a":1,"a":2,` + padding + `}`, `{"a":1,` + padding + `}`},
		{"merge", `{"a":1,"a":2,` + padding + `}`, `{"a":1,` + padding + `}`},
		{"merge", `[1,` + `2]`, `[2,` + `2]`},
		{"merge", `{"a":1,` + padding + `}`, `{"a":null,` + padding + `}`},
		{"merge", `{` + padding + `}`, `{"a":null,` + padding + `}`},
		{"merge", `{` + padding + `}`, `{"a":{"b":{"c":null}},` + padding + `}`},
		{"merge", `{"a":{"b":1},` + padding + `}`, `{"a":{"b":null},` + padding + `}`},
		{"merge", `{"a":1}`, `{"a":2}`},
		{"merge", `{"\ud800":1,` + padding + `}`, `{"\ud800":2,` + padding + `}`},
		{"items", `{"id":1}`, `{"id":2}`},
		{"items", `[{"id":1}]`, `[{"id":1},{"id":1.0}]`},
		{"items", `[{"id":1},{"id":1}]`, `[{"id":1}]`},
		{"items", `[{"id":1}]`, `[{"id":1},{"x":1}]`},
		{"items", `[{"id":1}]`, `[{"id":1},2]`},
		{"items", `[{"id":1}]`, `[{"id":null}]`},
		{"items", `[{"id":1}]`, `[{"id":[1]}]`},
		{"items", `[{"id":1}]`, `[{"id":true}]`},
		{"items", `[{"id":1}]`, `null`},
		{"items", `[]`, `[` + numbered(MaxItemEvents+1, `{"id":%}`) + `]`},
	} {
		arg := map[string]string{"items": "id"}[tc.word]
		if got := eventLines(t, mode(t, tc.word, arg), tc.old, tc.now); got != string(parse(t, tc.now).Bytes()) {
			t.Errorf("%s from %.50s to %.50s gives %.100s", tc.word, tc.old, tc.now, got)
		}
	}
}

func TestItemsDescribeRemovedChangedAndAdded(t *testing.T) {
	m := mode(t, "items", "id")
	got := eventLines(t, m,
		`[{"id":1,"n":1},{"id":9007199254740992,"n":2},{"id":"1","n":3},{"id":4,"n":1.0}]`,
		`[{"id":9007199254740993,"n":5},{"n":1, "id":4.0},{"id":"1","n":4},{"id":"\u0035"},{"id":1, "n":2.50}]`)
	want := `removed {"key":9007199254740992,"old":{"id":9007199254740992,"n":2}}
changed {"key":"1","item":{"id":"1","n":4},"old":{"id":"1","n":3}}
changed {"key":1,"item":{"id":1,"n":2.50},"old":{"id":1,"n":1}}
added {"key":9007199254740993,"item":{"id":9007199254740993,"n":5}}
added {"key":"\u0035","item":{"id":"\u0035"}}`
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := eventLines(t, m, `[{"id":1},{"id":2}]`, `[{"id":2},{"id":1}]`); got != "" {
		t.Errorf("another order is a change: %s", got)
	}
	if got := eventLines(t, m, `[]`, `[`+numbered(MaxItemEvents, `{"id":%}`)+`]`); strings.Count(got, "\n")+1 != MaxItemEvents {
		t.Errorf("%.100s", got)
	}
}

func TestItemKeyMayBeNested(t *testing.T) {
	got := eventLines(t, mode(t, "items", "meta.id"), `[{"meta":{"id":"a"}}]`, `[{"meta":{"id":"b"},"meta":{"id":"c","id":"a"},"x":1}]`)
	if want := `changed {"key":"a","item":{"meta":{"id":"b"},"meta":{"id":"c","id":"a"},"x":1},"old":{"meta":{"id":"a"}}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestJQProgramMakesEvents(t *testing.T) {
	const stock = `(.old | map({key: "\(.petId)", value: .stock}) | from_entries) as $was | .new[] | select($was["\(.petId)"] != .stock) | {event: "stock-change", data: {petId, oldStock: $was["\(.petId)"], newStock: .stock}}`
	for _, tc := range []struct{ program, old, now, want string }{
		{stock, `[{"petId":1,"stock":5},{"petId":2,"stock":7}]`, `[{"petId":1,"stock":4},{"petId":2,"stock":7}]`,
			`stock-change {"petId":1,"oldStock":5,"newStock":4}`},
		{`empty`, `1`, `2`, ``},
		{`{data: .new}`, `1`, `9007199254740993`, `9007199254740993`},
		{`{event: "", data: null}`, `1`, `2`, `null`},
		{`.old, .new | {event: "n\(.)", data: [.]}`, `1`, `2`, "n1 [1]\nn2 [2]"},
		{`{data: .new}`, `1`, deep(MaxDepth), deep(MaxDepth)},
	} {
		if got := eventLines(t, mode(t, "jq", tc.program), tc.old, tc.now); got != tc.want {
			t.Errorf("%s gives %.100s, want %.100s", tc.program, got, tc.want)
		}
	}
}

func TestJQOutputThatIsNoEventIsError(t *testing.T) {
	for program, want := range map[string]string{
		`1`:                           "output 1 is 1: want an object like {event: \"name\", data: …}",
		`null`:                        "output 1 is null: want an object",
		`{data: 1}, [2]`:              "output 2 is [2]: want an object",
		`{event: "a"}`:                "it has no data",
		`{event: 1, data: 2}`:         "its event is 1; want a string",
		`{event: null, data: 2}`:      "its event is null; want a string",
		`{event: "error", data: 2}`:   "EventSource has that name taken",
		`{event: "a\nb", data: 2}`:    "without line breaks",
		`{evnet: "a", data: 2}`:       `not "evnet"`,
		`{data: 1, event: "x" * 300}`: "…: invalid event name",
	} {
		events, err := mode(t, "jq", program).Events(t.Context(), parse(t, "1"), parse(t, "2"))
		if !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), want) || events != nil {
			t.Errorf("%s: %v, %v, want %q", program, events, err, want)
		}
	}
	_, err := mode(t, "jq", `{event: "open", data: 1}`).Events(t.Context(), parse(t, "1"), parse(t, "2"))
	if !errors.Is(err, event.ErrName) {
		t.Error(err)
	}
}

func TestFailingProgramAndEndedContextGiveDifferentErrors(t *testing.T) {
	m := mode(t, "jq", `error("no stock")`)
	if _, err := m.Events(t.Context(), parse(t, "1"), parse(t, "2")); !errors.Is(err, jq.ErrFailed) || !strings.Contains(err.Error(), "no stock") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mode(t, "jq", `def f: f; f`).Events(ctx, parse(t, "1"), parse(t, "2")); !errors.Is(err, context.Canceled) || errors.Is(err, jq.ErrFailed) {
		t.Error(err)
	}
}
