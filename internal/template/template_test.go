package template_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/template"
)

// braced replaces a placeholder by its name in angle brackets.
func braced(name string) (string, error) { return "<" + name + ">", nil }

func TestExpandReplacesPlaceholders(t *testing.T) {
	for src, want := range map[string]struct {
		text  string
		names []string
	}{
		"":                       {"", nil},
		"text":                   {"text", nil},
		"{a}":                    {"<a>", []string{"a"}},
		"orders/{a.b}/{c}":       {"orders/<a.b>/<c>", []string{"a.b", "c"}},
		"{a}{a}{b}":              {"<a><a><b>", []string{"a", "a", "b"}},
		`\{a\}`:                  {"{a}", nil},
		`{a\{b\}}`:               {"<a{b}>", []string{"a{b}"}},
		`\`:                      {`\`, nil},
		"é{ü}\n":                 {"é<ü>\n", []string{"ü"}},
		"{header.X-GitHub}: {b}": {"<header.X-GitHub>: <b>", []string{"header.X-GitHub", "b"}},
		"{filed}{a.file.b}":      {"<filed><a.file.b>", []string{"filed", "a.file.b"}},
	} {
		tmpl, err := template.Compile(src)
		if err != nil {
			t.Errorf("%q: %v", src, err)
			continue
		}
		got, err := tmpl.Expand(braced)
		if got != want.text || err != nil || !slices.Equal(tmpl.Placeholders(), want.names) {
			t.Errorf("%q: %q (%q), %v, want %q (%q)", src, got, tmpl.Placeholders(), err, want.text, want.names)
		}
	}
}

func TestCompileReportsMistakes(t *testing.T) {
	for src, want := range map[string]string{
		"{":             "not closed",
		"a{b":           "not closed",
		"a}":            "byte 1",
		"}{":            "byte 0",
		"{a{b}}":        `brace as \{`,
		"{a}}":          `brace as \}`,
		"{}":            "no name",
		"a{}b":          "no name",
		"{file./etc/x}": "templates don't read files",
		"{a}{file.{b}}": "unbalanced",
		`a\b\\{c}`:      "byte 7", // the backslash before the brace escapes it
		`{file.\{b\}}`:  "templates don't read files",
		`{a\}`:          "not closed",
	} {
		if tmpl, err := template.Compile(src); err == nil || tmpl != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), src) {
			t.Errorf("%q: %v, want an error with %q", src, err, want)
		}
	}
}

func TestValueIsNeverExpanded(t *testing.T) {
	tmpl, err := template.Compile("{a}/{b}")
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Expand(func(name string) (string, error) { return "{b}{file./etc/passwd}" + `\{` + name, nil })
	if want := `{b}{file./etc/passwd}\{a/{b}{file./etc/passwd}\{b`; got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestErrorEndsExpansion(t *testing.T) {
	tmpl, err := template.Compile("x{a}{b}")
	if err != nil {
		t.Fatal(err)
	}
	missing := errors.New("missing")
	var names []string
	got, err := tmpl.Expand(func(name string) (string, error) { names = append(names, name); return "x", missing })
	if got != "" || !errors.Is(err, missing) || len(names) != 1 {
		t.Errorf("%q, %v after asking for %q", got, err, names)
	}
}

// A template that expands each placeholder to itself gives its source again.
func FuzzCompile(f *testing.F) {
	for _, src := range []string{"", "a{b}c", `\{a\}{b\}c}`, "{", "}", "{}", "{file.x}", `\\{a}`, `{a\`} {
		f.Add(src)
	}
	escape := strings.NewReplacer("{", `\{`, "}", `\}`)
	f.Fuzz(func(t *testing.T, src string) {
		tmpl, err := template.Compile(src)
		if err != nil {
			return
		}
		for _, name := range tmpl.Placeholders() {
			if name == "" || strings.HasPrefix(name, "file.") {
				t.Errorf("%q has the placeholder %q", src, name)
			}
		}
		got, err := tmpl.Expand(func(name string) (string, error) { return "\x00" + name + "\x01", nil })
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(src, "\x00\x01") {
			return
		}
		back := strings.NewReplacer("\x00", "{", "\x01", "}").Replace(escape.Replace(got))
		again, err := template.Compile(back)
		if err != nil {
			t.Fatalf("%q was %q: %v", back, src, err)
		}
		if twice, _ := again.Expand(func(name string) (string, error) { return "\x00" + name + "\x01", nil }); twice != got {
			t.Errorf("%q and %q are %q and %q", src, back, got, twice)
		}
	})
}
