package charset_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/charset"
)

const cafe = `{"name":"café"}`

func TestTextIsConvertedToUTF8(t *testing.T) {
	for name, c := range map[string]struct{ declared, text, want, from string }{
		"nothing declared":       {"", cafe, cafe, ""},
		"UTF-8":                  {"UTF8", cafe, cafe, ""},
		"ISO-8859-1":             {"ISO-8859-1", "{\"name\":\"caf\xe9\"}", cafe, "ISO-8859-1"},
		"Windows-1252":           {"windows-1252", "\x80 5 \x96", "€ 5 –", "windows-1252"},
		"KOI8-R":                 {"koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет", "koi8-r"},
		"Shift_JIS":              {"Shift_JIS", "\x93\xfa\x96\x7b", "日本", "Shift_JIS"},
		"ISO-2022-JP":            {"iso-2022-jp", "\x1b$BF|K\\\x1b(B", "日本", "iso-2022-jp"},
		"GB 18030":               {"gb18030", "\xd6\xd0\xce\xc4", "中文", "gb18030"},
		"UTF-16 as declared":     {"utf-16le", "\xac\x20", "€", "utf-16le"},
		"UTF-16 with a mark":     {"utf-16", "\xff\xfe\xac\x20", "€", "utf-16le"},
		"UTF-16 with a mark, BE": {"utf-8", "\xfe\xff\x20\xac", "€", "utf-16be"},
		"a mark of UTF-8":        {"iso-8859-1", "\xEF\xBB\xBFé", "\ufeffé", ""},
		"a default that is set":  {"iso-8859-1", cafe, cafe, ""},
		"no such character":      {"euc-kr", "\xff", "\ufffd", "euc-kr"},
		"half a character":       {"utf-16be", "\x20", "\ufffd", "utf-16be"},
	} {
		got, from, err := charset.ToUTF8([]byte(c.text), c.declared)
		if err != nil || string(got) != c.want || from != c.from {
			t.Errorf("%s: got %q from %q, %v; want %q from %q", name, got, from, err, c.want, c.from)
		}
	}
}

func TestTextOfUnknownCharsetStaysAsItIs(t *testing.T) {
	for _, declared := range []string{"ebcdic-cp-us", "iso-2022-kr", "utf-7", "binary", "\xff", strings.Repeat("x", 1000)} {
		got, from, err := charset.ToUTF8([]byte("caf\xe9"), declared)
		if !errors.Is(err, charset.ErrUnknown) || string(got) != "caf\xe9" || from != "" {
			t.Errorf("%q: got %q from %q, %v", declared, got, from, err)
		}
	}
}

func TestRequestIsReadInItsCharset(t *testing.T) {
	for name, c := range map[string]struct {
		declared, body, want string
		isForm               bool
	}{
		"text":                           {"iso-8859-15", "5 \xa4", "5 €", false},
		"UTF-8 of an unknown charset":    {"utf8mb4", cafe, cafe, false},
		"text that the parser refuses":   {"", "caf\xe9", "caf\xe9", false},
		"a form":                         {"windows-1252", "a=5+%80&b[c]=%A3%26&%E9=1&d&=&e=f=%80", "a=5+%E2%82%AC&b%5Bc%5D=%C2%A3%26&%C3%A9=1&d&=&e=f=%E2%82%AC", true},
		"a form with bytes as they are":  {"iso-8859-1", "a=caf\xe9", "a=caf%C3%A9", true},
		"a form in UTF-8 of a default":   {"iso-8859-1", "a=caf%C3%A9", "a=caf%C3%A9", true},
		"values that also mean UTF-8":    {"iso-8859-1", "a=%C3%A9&b=%E9", "a=%C3%83%C2%A9&b=%C3%A9", true},
		"a form in Shift_JIS":            {"shift_jis", "a=%93%FA%96%7B&b=x%40", "a=%E6%97%A5%E6%9C%AC&b=x%40", true},
		"what is no form":                {"shift_jis", "a=%zz", "a=%zz", true},
		"an empty form":                  {"shift_jis", "", "", true},
		"a form of one mark":             {"utf-16le", "%FF", "%FF", true},
		"a form of an unknown, in ASCII": {"x-mac", "a=b", "a=b", true},
	} {
		read := charset.ReadText
		if c.isForm {
			read = charset.ReadForm
		}
		got, refused := read([]byte(c.body), c.declared, 1000)
		if name == "a form of one mark" {
			if refused == nil || refused.Status != 400 {
				t.Errorf("%s: %q, %v", name, got, refused)
			}
			continue
		}
		if refused != nil || string(got) != c.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, refused, c.want)
		}
	}
}

func TestRequestInUnreadableCharsetIsRefused(t *testing.T) {
	const long = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	for name, c := range map[string]struct {
		declared, body string
		isForm         bool
		status         int
		reason         string
	}{
		"unknown":                    {"ebcdic-cp-us", "\xc3\x81", false, 0, ""}, // it is UTF-8
		"unknown, and not UTF-8":     {"ebcdic-cp-us", "\xc1\xc2", false, 415, `the charset "ebcdic-cp-us" is unknown: send UTF-8`},
		"unknown in a form":          {"ebcdic-cp-us", "a=%C1", true, 415, `the charset "ebcdic-cp-us" is unknown: send UTF-8`},
		"with a long name":           {long + "x", "\xff", false, 415, `the charset "` + long + `…" is unknown: send UTF-8`},
		"no such character":          {"shift_jis", "\xff", false, 400, `the text has bytes that mean nothing in its charset "shift_jis"`},
		"no such character in forms": {"shift_jis", "a=%FF", true, 400, `the text has bytes that mean nothing in its charset "shift_jis"`},
		"half of a UTF-16 unit":      {"", "\xff\xfe\x31", false, 400, `the text has bytes that mean nothing in its charset "utf-16le"`},
		"too large in UTF-8":         {"iso-8859-1", "\xe9\xe9\xe9\xe9\xe9\xe9", false, 413, "the body is larger than 10 bytes in UTF-8"},
		"too large a form":           {"iso-8859-1", "%E9%E9", true, 413, "the body is larger than 10 bytes in UTF-8"},
	} {
		read := charset.ReadText
		if c.isForm {
			read = charset.ReadForm
		}
		_, refused := read([]byte(c.body), c.declared, 10)
		switch {
		case c.status == 0 && refused == nil:
		case refused == nil || refused.Status != c.status || refused.Reason != c.reason:
			t.Errorf("%s: got %v, want %d: %s", name, refused, c.status, c.reason)
		}
	}
}

func FuzzReadForm(f *testing.F) {
	f.Add("a=%E9&b=1", "iso-8859-1")
	f.Add("a=%93%FA", "shift_jis")
	f.Add("%FF%FE=1", "utf-16")
	f.Fuzz(func(t *testing.T, form, declared string) {
		got, refused := charset.ReadForm([]byte(form), declared, 100)
		if refused == nil && string(got) != form && len(got) > 100 {
			t.Errorf("%q as %q: %q", form, declared, got)
		}
	})
}
