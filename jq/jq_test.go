package jq_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/jq"
)

func compile(t testing.TB, src string) *jq.Program {
	t.Helper()
	program, err := jq.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// run returns the outputs, one per line.
func run(t testing.TB, src, doc string) string {
	t.Helper()
	outputs, err := compile(t, src).Run(t.Context(), []byte(doc))
	if err != nil {
		t.Fatalf("%s on %.50q: %v", src, doc, err)
	}
	var lines []string
	for _, output := range outputs {
		lines = append(lines, string(output))
	}
	return strings.Join(lines, "\n")
}

func runError(t testing.TB, src, doc string) error {
	t.Helper()
	outputs, err := compile(t, src).Run(t.Context(), []byte(doc))
	if err == nil {
		t.Fatalf("%s on %.50q gave %.100q, want an error", src, doc, outputs)
	}
	if outputs != nil {
		t.Errorf("outputs %q came with the error %v", outputs, err)
	}
	return err
}

func TestUnchangedNumbersKeepEveryDigit(t *testing.T) {
	const (
		id    = "9007199254740993" // 2^53 + 1, which float64 doesn't have
		price = "0.1000000000000000000000000000010"
	)
	for _, n := range []string{id, price, "18446744073709551616", "1.0", "-0", "1e1000", "1E+2", "0.0"} {
		for _, src := range []string{
			".", "[.][0]", "{a: .} | .a", ". as $x | $x", "[.] | sort[]", "[.] | unique[]", "[.] | max",
			"tojson | fromjson", "tonumber", ". // 0", "[.] | map(.)[]", "{a: .} | to_entries[0].value",
			"{a: .} | with_entries(.) | .a", "[[.]] | flatten[]", "walk(.)", "[.] | first(.[])",
			"[.] | reduce .[] as $x (null; $x)", "[.] | group_by(.)[0][0]", "if . then . else 0 end",
		} {
			if got := run(t, src, n); got != n {
				t.Errorf("%s on %s = %s", src, n, got)
			}
		}
		if got, want := run(t, `tostring, "\(.)"`, n), `"`+n+`"`+"\n"+`"`+n+`"`; got != want {
			t.Errorf("%s as a string = %s", n, got)
		}
	}
}

func TestIntegerArithmeticIsExact(t *testing.T) {
	if got := run(t, ". + 1, . * 2, -.", "9223372036854775807"); got != "9223372036854775808\n18446744073709551614\n-9223372036854775807" {
		t.Error(got)
	}
}

// Other implementations keep the order in which an object was made; gojq sorts.
func TestKeysComeAsTheProgramNamesThem(t *testing.T) {
	for _, tc := range []struct{ src, doc, want string }{
		{`{petId: .id, oldStock: .was, newStock: .is}`, `{"id":1,"was":5,"is":4}`, `{"petId":1,"oldStock":5,"newStock":4}`},
		{`.[] | {z, "a b": 1, "y": {c: 1, b: 2}, "x": 3}`, `[{"z":0}]`, `{"z":0,"a b":1,"y":{"c":1,"b":2},"x":3}`},
		{`.a as $t | {$t, "\(.b)": 1, (.b): 2, s: 3}`, `{"a":0,"b":"q"}`, `{"t":0,"s":3,"q":2}`},
		{`if .n then {event: "b", data: .} else {data: ., event: "a"} end`, `{"n":1,"data":2,"A":3}`, `{"event":"b","data":{"data":2,"A":3,"n":1}}`},
		{`def f: {y: 1, x: 2}; [f] + [{x: 3, w: 4}] | .[]`, `null`, "{\"y\":1,\"x\":2}\n{\"x\":3,\"w\":4}"},
		{`reduce .[] as $i ({b: 0, a: 0}; .a += $i) | . + {c: 1}`, `[1,2]`, `{"b":0,"a":3,"c":1}`},
		{`map(select(.v)) | {key: "k", value: .} | [.] | from_entries`, `[{"v":1,"u":2}]`, `{"k":[{"u":2,"v":1}]}`},
	} {
		if got := run(t, tc.src, tc.doc); got != tc.want {
			t.Errorf("%s on %s = %s, want %s", tc.src, tc.doc, got, tc.want)
		}
	}
}

func TestOutputIsCompactJSONWithSortedKeys(t *testing.T) {
	for _, tc := range []struct{ src, doc, want string }{
		{".", ` { "b" : [ 1 , true ] , "a" : null } `, `{"a":null,"b":[1,true]}`},
		{".", `{"é":1,"z":2,"Z":3,"":4}`, `{"":4,"Z":3,"z":2,"é":1}`},
		{".[]", `[]`, ``},
		{".[]", `[1,"a",{}]`, "1\n\"a\"\n{}"},
		{"nan, infinite, -infinite", `0`, "null\n1.7976931348623157e+308\n-1.7976931348623157e+308"},
		{"1.5, 1e21, 1e-7", `0`, "1.5\n1e+21\n1e-7"},
		{".", `"<a href='x'>&"`, `"<a href='x'>&"`},
		{".", `"a\u2028b\u2029c\u0085"`, "\"a\\u2028b\\u2029c\u0085\""},
		{"keys", `{"a\u2028":1}`, `["a\u2028"]`},
		{".", `"\n\r\t\b\f\u0000\u001f\\\"\/"`, `"\n\r\t\b\f\u0000\u001f\\\"/"`},
		{".", `"\ud83d\ude00 \ud800"`, "\"😀 \uFFFD\""},
		{`"gA==" | @base64d`, `0`, `"\ufffd"`},
	} {
		if got := run(t, tc.src, tc.doc); got != tc.want {
			t.Errorf("%s on %s = %s, want %s", tc.src, tc.doc, got, tc.want)
		}
	}
}

func TestInvalidDocumentAndFailingProgramGiveDifferentErrors(t *testing.T) {
	for doc, want := range map[string]string{
		"":                 "it is empty",
		"  \n":             "it is empty",
		`{"a":1`:           "it breaks off",
		`{"a":1}}`:         "something follows",
		`1 2`:              "something follows",
		"1\n[":             "something follows",
		`a=b`:              "invalid character",
		`{'a':1}`:          "invalid character",
		`NaN`:              "invalid character",
		"\"\xff\"":         "UTF-8",
		"\uFEFF1":          "invalid character",
		deepArrays(10_001): "max depth",
	} {
		err := runError(t, ".", doc)
		if !errors.Is(err, jq.ErrNotJSON) || errors.Is(err, jq.ErrFailed) || !strings.Contains(err.Error(), want) {
			t.Errorf("on %.20q: %v, want %q", doc, err, want)
		}
	}
	for src, want := range map[string]string{
		".a":                "expected an object",
		`error("no order")`: "no order",
		"halt_error":        "halt error",
		".[] | error":       "error",
	} {
		err := runError(t, src, `["a"]`)
		if !errors.Is(err, jq.ErrFailed) || errors.Is(err, jq.ErrNotJSON) || errors.Is(err, jq.ErrLimit) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
}

func deepArrays(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestDocumentAtMaximumDepthPassesUnchanged(t *testing.T) {
	doc := deepArrays(10_000)
	if run(t, ".", doc) != doc {
		t.Error("it came out changed")
	}
	if err := runError(t, "[.]", doc); !errors.Is(err, jq.ErrLimit) {
		t.Error(err)
	}
}

func TestWhiteSpaceAfterTheDocumentIsAllowed(t *testing.T) {
	if got := run(t, ".", "1 \r\n\t"); got != "1" {
		t.Error(got)
	}
}

func TestProgramMayGiveNoOutput(t *testing.T) {
	for _, src := range []string{"empty", "select(.a)", "halt", ".[]?"} {
		if got := run(t, src, `{}`); got != "" {
			t.Errorf("%s gave %s", src, got)
		}
	}
	if got := run(t, "1, halt, 2", "0"); got != "1" {
		t.Errorf("halt did not end the program after what it had given: %s", got)
	}
}

func TestProgramSeesOnlyItsDocument(t *testing.T) {
	t.Setenv("JQ_SECRET", "hidden")
	t.Chdir(t.TempDir())
	if got := run(t, "env, $ENV, env.JQ_SECRET", "0"); got != "{}\n{}\nnull" {
		t.Errorf("the environment shows: %s", got)
	}
	if err := runError(t, "modulemeta", `"m"`); !strings.Contains(err.Error(), "cannot load module") {
		t.Error(err)
	}
	if err := os.WriteFile("m.jq", []byte("def f: 1;"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, src := range []string{
		"input", "[inputs]", "input_filename", "input_line_number", "get_search_list", "debug", "stderr",
		`import "m" as m; m::f`, `include "m"; f`, `import "m" as $m; $m`,
	} {
		if _, err := jq.Compile(src); err == nil {
			t.Errorf("%s compiles", src)
		}
	}
}

func TestCompileErrorQuotesProgramAndCause(t *testing.T) {
	for src, want := range map[string]string{
		".a |":             "jq program `.a |`: unexpected EOF at byte 4",
		"{a":               "unexpected EOF",
		"nosuch":           "function not defined: nosuch/0",
		"$x":               "variable not defined: $x",
		`"a`:               "unterminated string",
		"{host, b: .path}": "",
	} {
		_, err := jq.Compile(src)
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "placeholder") {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
}

func TestCompileErrorExplainsExpandedPlaceholder(t *testing.T) {
	_, err := jq.Compile("{http.request.uri.path}")
	if err == nil || !strings.Contains(err.Error(), "write `{path: .path}` instead of `{path}`") {
		t.Error(err)
	}
}

func TestCancelledRunReturnsContextCause(t *testing.T) {
	gaveUp := errors.New("gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gaveUp)
	_, err := compile(t, "def f: f; f").Run(ctx, []byte("0"))
	if !errors.Is(err, gaveUp) || errors.Is(err, jq.ErrFailed) {
		t.Error(err)
	}
}

func TestProgramRunsConcurrently(t *testing.T) {
	program := compile(t, `{n: .n, s: "\(.n)", t: (.s | test("a+"))}`)
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 100 {
				out, err := program.Run(t.Context(), []byte(`{"n":1,"s":"aa"}`))
				if err != nil || string(out[0]) != `{"n":1,"s":"1","t":true}` {
					t.Errorf("%s, %v", out, err)
				}
			}
		})
	}
}

func FuzzRun(f *testing.F) {
	var programs []*jq.Program
	for _, src := range []string{
		".", ".[]?", "..", "tojson", "tostring", "try (.a + .b) catch .", "[paths]",
		"walk(if type == \"number\" then . + 1 else . end)", "to_entries?", ".a[2:4]?", "@text, @json, @html",
	} {
		programs = append(programs, compile(f, src))
	}
	for _, doc := range []string{
		`{"a":[1,2.50,"x"],"b":{"c":null}}`, `[9007199254740993,1e1000,-0.0]`, "\"\\u2028\u2029\\ud800\"",
		`{"a":"<>&","b":"\u0000"}`, `1 2`, "\xff", `{"a":{},"a":[]}`, deepArrays(50),
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, program := range programs {
			outputs, err := program.Run(t.Context(), doc)
			isJSON := json.Valid(doc) && utf8.Valid(doc)
			if errors.Is(err, jq.ErrNotJSON) == isJSON || (err != nil && isJSON && !errors.Is(err, jq.ErrFailed)) {
				t.Errorf("%s: %v", program, err)
			}
			for _, output := range outputs {
				if !json.Valid(output) || strings.ContainsAny(string(output), "\r\n\u2028\u2029") {
					t.Errorf("%s gave %q", program, output)
				}
			}
		}
	})
}

func BenchmarkRun(b *testing.B) {
	program := compile(b, `{action, number: .issue.number, title: .issue.title}`)
	doc := []byte(`{"action":"opened","issue":{"number":42,"title":"It breaks","labels":[{"name":"bug"}]},"body":"` + strings.Repeat("x", 8<<10) + `"}`)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := program.Run(b.Context(), doc); err != nil {
			b.Fatal(err)
		}
	}
}

// Errors are logged.
func TestErrorQuotesNoValuesOfDocument(t *testing.T) {
	for program, want := range map[string]string{
		".name.first":                   "expected an object but got: string",
		".n + .name":                    "cannot add: number",
		".list | tonumber":              "tonumber cannot be applied to: array",
		`"\(.name)" | .[0:1] | .secret`: "expected an object but got: string",
		".odd | .x":                     "expected an object but got: string",
		".name | fromjson":              "fromjson",
		".name | test(\"(\")":           "",
	} {
		err := runError(t, program, `{"name":"hunter2","n":4711,"list":["hunter2"],"odd":"hunter2) and (\nhunter2"}`)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", program, err, want)
		}
		if strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: %v", program, err)
		}
	}
}
