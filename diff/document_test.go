package diff

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDocumentsAreComparedAsJSON(t *testing.T) {
	seen := make(map[digest]string)
	for _, group := range [][]string{
		{`{"a":1,"b":[2]}`, "{ \"b\" : [ 2 ],\r\n\t\"a\" : 1 }", `{"a":1.0,"b":[0.2e1]}`},
		{`[1,2]`}, {`[2,1]`}, {`[[1],2]`}, {`[1,[2]]`}, {`[]`}, {`{}`}, {`[{}]`}, {`[[]]`}, {`[null]`}, {`null`}, {`false`}, {`""`},
		{`1`, `1.0`, `10e-1`, `1E0`, `1e+0`, `0.1e1`, `1e-0`, `1e000`},
		{`0`, `-0`, `0.0`, `0e10`, `-0.0e-5`, `0e999999999999999999999999`},
		{`100`, `1e2`, `1E+02`, `10.0e1`}, {`-100`, `-1e2`}, {`"1"`}, {`"1e2"`}, {`"100"`},
		{`9007199254740993`}, {`9007199254740992`},
		{`0.1`, `0.10`}, {`0.1000000000000000055`}, {`0.10000000000000000551`},
		{`1e1000000000`, `10e999999999`, `0.001e1000000003`}, {`1e1000000001`}, {`1e-1000000000`},
		{`1e99999999999999999999`}, {`1e99999999999999999998`},
		{`"A"`, `"\u0041"`}, {`"/"`, `"\/"`, `"\u002f"`, `"\u002F"`}, {`"😀"`, `"\ud83d\ude00"`},
		{"\"\u2028\u2029\"", `"\u2028\u2029"`}, {`"\ud800"`}, {`"\ud801"`}, {`"\ufffd"`, "\"\uFFFD\""}, {`"\\ud800"`},
		{`{"a":{"b":1}}`, `{"\u0061":{"b":1}}`}, {`{"a":{"c":1},"a":{"b":1}}`, `{"a":{"c":1.0}, "\u0061":{"b":1}}`}, {`{"a":{"b":1},"a":{"c":1}}`}, {`{"a":2,"a":{"b":1}}`}, {`{"a":{"b":1},"a":{"b":1}}`}, {`{"a":{},"b":1}`}, {`{"a":"b"}`}, {`{"b":"a"}`},
		{`{"\ud800":1,"\ud801":2}`}, {`{"\ud800":1}`}, {`{"":{"":0}}`},
	} {
		for _, a := range group {
			for _, b := range group {
				if !parse(t, a).Equal(parse(t, b)) {
					t.Errorf("%s is not %s", a, b)
				}
			}
		}
		d := parse(t, group[0])
		if other, ok := seen[d.digest]; ok {
			t.Errorf("%s is %s", group[0], other)
		}
		seen[d.digest] = group[0]
	}
}

func TestOrderOfDuplicateMembersMakesADifference(t *testing.T) {
	many := strings.Repeat(`"a":1,"b":2,`, 50)
	for _, other := range []string{`{` + many + `"b":2,"a":3}`, `{"a":3,` + many + `"b":2}`, `{"a":3,"b":2}`, `{"a":1,"b":2}`} {
		if parse(t, `{`+many+`"a":3,"b":2}`).Equal(parse(t, other)) {
			t.Errorf("they are equal: %s", other)
		}
	}
}

func TestBytesKeepNumbersEscapesAndMemberOrder(t *testing.T) {
	got := parse(t, " { \"z\" : 1.50 , \"a\" : [ 9007199254740993, -0, 1E+2 ],\n\"\\u0041\":\"<a b>\u2028\\u2028\", \"z\": \"\u0085\" } ").Bytes()
	if want := `{"z":1.50,"a":[9007199254740993,-0,1E+2],"\u0041":"<a b>\u2028\u2028","z":"` + "\u0085" + `"}`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCompactDocumentIsNotCopied(t *testing.T) {
	in := []byte(`{"a":" 1 \u2028","b":[1,2]}`)
	if got := parse(t, string(in)).Bytes(); string(got) != string(in) {
		t.Errorf("%s", got)
	}
	d, err := Parse(in)
	if err != nil || &d.Bytes()[0] != &in[0] {
		t.Errorf("%s is a copy, %v", d.Bytes(), err)
	}
}

func TestChangedTextHasNoSlack(t *testing.T) {
	d := parse(t, "[ 1,\t{\"\u2028\" :\r\n\"\u2029 \xe2\x80\xaa\" } ]\n")
	if got, want := d.Bytes(), `[1,{"\u2028":"\u2029 `+"\xe2\x80\xaa"+`"}]`; string(got) != want || cap(got)-len(got) > 8 {
		t.Errorf("%s in %d bytes, want %s", got, cap(got), want)
	}
}

func TestInvalidJSONIsRefused(t *testing.T) {
	for doc, want := range map[string]string{
		"":                 "unexpected end",
		" \n":              "unexpected end",
		`{"a":1`:           "unexpected end",
		`{"a":1}}`:         "invalid character",
		`1 2`:              "invalid character",
		`NaN`:              "invalid character",
		`01`:               "invalid character",
		"\"\xff\"":         "UTF-8",
		"\"\xed\xa0\x80\"": "UTF-8",
		"\"\n\"":           "invalid character",
		"\u2028":           "invalid character",
		"\uFEFF1":          "invalid character",
		deep(MaxDepth + 1): "deeper than 9990",
		deep(1_000_000):    "depth",
	} {
		if _, err := Parse([]byte(doc)); !errors.Is(err, ErrNotJSON) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", doc, err, want)
		}
	}
}

func deep(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestHostileDocumentsAreComparedInTime(t *testing.T) {
	const many, few = 20_000, 100
	long := strings.Repeat("x", 10*many)
	for name, docs := range map[string][2]string{
		"exponents":       {`[` + strings.Repeat(`1e1000000000,`, many) + `1e-999999999]`, `[` + strings.Repeat(`1e1000000001,`, many) + `1e-999999999]`},
		"a long exponent": {`1e` + strings.Repeat("9", 10*many), `1e-` + strings.Repeat("9", 10*many)},
		"a long number":   {`1` + strings.Repeat("0", 10*many) + `.` + strings.Repeat("0", many) + `1`, `1e` + strings.Repeat("0", many) + `1`},
		"equal names":     {`{` + strings.Repeat(`"a":1,`, many) + `"a":2}`, `{` + strings.Repeat(`"b":1,`, many) + `"a":3}`},
		"names":           {`{` + numbered(many, `"%":%`) + `}`, `{` + numbered(many, `"-%":%`) + `}`},
		"items":           {`[` + numbered(many, `%`) + `]`, `[` + numbered(many, `-%`) + `]`},
		"deep arrays":     {nested("[", `"`+long+`y"`, "]"), nested("[", `"`+long+`z"`, "]")},
		"deep lists":      {nested("[1,", `["`+long+`",`+numbered(few, `%`)+`]`, "]"), nested("[1,", `["`+long+`",`+numbered(few, `-%`)+`]`, "]")},
		"deep objects":    {nested(`{"a":`, `{"":"`+long+`",`+numbered(few, `"%":%`)+`}`, "}"), nested(`{"a":`, `{"":"`+long+`",`+numbered(few, `"%":-%`)+`}`, "}")},
		"escapes":         {`"` + strings.Repeat(`\ud800`, many) + `"`, `"` + strings.Repeat("\u2028", many) + `"`},
	} {
		start := time.Now()
		from, to := parse(t, docs[0]), parse(t, docs[1])
		for _, m := range []*Mode{mode(t, "patch", ""), mode(t, "merge", ""), mode(t, "items", "id")} {
			if _, err := m.Events(t.Context(), from, to); err != nil {
				t.Errorf("%s, %s: %v", name, m, err)
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func nested(opening, inner, closing string) string {
	const depth = MaxDepth - 1
	return strings.Repeat(opening, depth) + inner + strings.Repeat(closing, depth)
}

// numbered repeats a text, separated by commas, with its number in place of each %.
func numbered(n int, text string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = strings.ReplaceAll(text, "%", indexToken(i+1))
	}
	return strings.Join(parts, ",")
}
