package poll_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// brokenJSON are bodies of responses that say application/json, with the byte
// from which on they aren't.
var brokenJSON = map[string]int{
	`{"load":NaN}`: 8,
	"<br />\n<b>Warning</b>:  Undefined array key \"x\" in <b>/srv/a.php</b> on line <b>3</b><br />\n{\"n\":1}": 0,
	`{"orders":[{"id":1,"status":"ship`:   33,
	`{"orders":[{"id":1},`:                20,
	``:                                    0,
	" \n":                                 2,
	`{"a":1}{"a":2}`:                      7,
	"{\"a\":1}\n{\"a\":2}\n":              8,
	`{'a':1}`:                             1,
	`{"a":1,}`:                            7,
	`undefined`:                           0,
	"\xEF\xBB\xBF{\"a\":Infinity}":        8,
	")]}',\n{\"a\":-Infinity}":            12,
	"{\"name\":\"caf\xe9\",\"load\":NaN}": 22,
	"\x1f\x8b\x08\x00":                    0,
	"{\"a\":\"\x00\"}":                    6,
}

func TestBrokenJSONKeepsLastGoodDocument(t *testing.T) {
	for body, at := range brokenJSON {
		t.Run(fmt.Sprintf("%q", body), func(t *testing.T) {
			logged(t, poll.Config{Interval: second}, func(e *env, log *observer.ObservedLogs) {
				e.set(asJSON(`{"n":1}`, "ETag", `"good"`))
				v := e.subscribe(newRequest("/doc"))
				advance(3 * time.Second) // from then on, the validator counts
				e.set(asJSON(body, "ETag", `"bad"`))
				advance(5 * time.Second)
				v.want(t, `{"n":1}`, "stale")
				if tag := e.last().Header.Get("If-None-Match"); tag != `"good"` {
					t.Errorf("the poll sent the entity tag %s", tag)
				}
				lines := log.FilterMessageSnippet("backend fails").TakeAll()
				if len(lines) != 1 || lines[0].ContextMap()["byte"] != int64(at) {
					t.Errorf("the log has %+v, want byte %d", lines, at)
				}
				e.set(status(http.StatusNotModified))
				advance(time.Minute)
				v.want(t, `{"n":1}`, "stale", `{"n":1}`)
			})
		})
	}
}

func TestBrokenJSONAtFirstPollIsStale(t *testing.T) {
	for body := range brokenJSON {
		within(t, poll.Config{Interval: second}, func(e *env) {
			e.set(asJSON(body))
			v := e.subscribe(newRequest("/doc"))
			v.want(t, "stale")
			e.set(asJSON(`{"n":1}`))
			advance(10 * time.Second)
			v.want(t, "stale", `{"n":1}`)
		})
	}
}

func TestEveryThirdAnswerBrokenSendsNoBrokenDocumentAndFillsNoLog(t *testing.T) {
	logged(t, poll.Config{Interval: second}, func(e *env, log *observer.ObservedLogs) {
		n := 0
		e.setFunc(func(*http.Request) (*subrequest.Response, error) {
			n++
			if n%3 == 0 {
				return asJSON("<b>Warning</b>: Division by zero" + fmt.Sprintf(`{"n":%d}`, n)), nil
			}
			return asJSON(fmt.Sprintf(`{"n":%d}`, n)), nil
		})
		v := e.subscribe(newRequest("/doc"))
		advance(5 * time.Minute)
		for _, event := range v.events() {
			if strings.Contains(string(event.Data), "Warning") {
				t.Errorf("the viewer got %q", event.Data)
			}
		}
		if n, lines := e.polls(), log.Len(); n < 200 || lines > 2*6 {
			t.Errorf("%d polls, and %d lines in the log", n, lines)
		}
	})
}

func TestBrokenJSONEndsWithWholeDocumentInEachMode(t *testing.T) {
	for send, want := range map[string]string{
		"patch":    `[{"id":1,"n":2}]`,
		"merge":    `[{"id":1,"n":2}]`,
		"items id": `[{"id":1,"n":2}]`,
	} {
		within(t, config{Interval: second}.with(send), func(e *env) {
			e.set(asJSON(`[{"id":1,"n":1}]`))
			v := e.subscribe(newRequest("/doc"))
			e.set(asJSON(`[{"id":1,"n":`))
			advance(3 * time.Second)
			e.set(asJSON(`[{"id":1,"n":2}]`))
			advance(10 * time.Second)
			v.want(t, `[{"id":1,"n":1}]`, "stale", want)
		})
	}
}

func TestJSONIsDecodedAsBrowsersDo(t *testing.T) {
	const cafe = `{"name":"café"}`
	for name, c := range map[string]struct{ contentType, body, want string }{
		"a byte order mark":             {"application/json", "\xEF\xBB\xBF" + cafe, cafe},
		"ISO-8859-1":                    {"application/json; charset=ISO-8859-1", "{\"name\":\"caf\xe9\"}", cafe},
		"Windows-1252":                  {"application/json;charset=windows-1252", "{\"a\":\"\x80 5\"}", `{"a":"€ 5"}`},
		"Shift_JIS":                     {`application/json; charset="Shift_JIS"`, "{\"a\":\"\x93\xfa\x96\x7b\"}", `{"a":"日本"}`},
		"ISO-2022-JP":                   {"application/json; charset=iso-2022-jp", "{\"a\":\"\x1b$BF|K\\\x1b(B\"}", `{"a":"日本"}`},
		"GBK":                           {"application/json; charset=gbk", "{\"a\":\"\xd6\xd0\xce\xc4\"}", `{"a":"中文"}`},
		"UTF-16 as declared":            {"application/json; charset=utf-16le", "[\x00\"\x00\xac\x20\"\x00]\x00", `["€"]`},
		"UTF-16 with a mark":            {"application/json; charset=utf-16", "\xff\xfe[\x00\"\x00\xac\x20\"\x00]\x00", `["€"]`},
		"UTF-16, big endian":            {"application/json; charset=utf-8", "\xfe\xff\x00[\x00\"\x20\xac\x00\"\x00]", `["€"]`},
		"a charset that isn't the real": {"application/json; charset=iso-8859-1", cafe, cafe},
		"an unknown charset":            {"application/json; charset=binary", cafe, cafe},
		"a broken parameter":            {"application/json; charset", cafe, cafe},
		"a parameter twice":             {"application/json; charset=utf-8; charset=utf-8", cafe, cafe},
		"bytes that aren't UTF-8":       {"application/json", "{\"a\":\"\xff\xe2\x82!\xf0\x9f\x98\"}", `{"a":"` + "\ufffd\ufffd!\ufffd" + `"}`},
		"a surrogate in UTF-8":          {"application/json", "[\"\xed\xa0\x80\"]", `["` + "\ufffd\ufffd\ufffd" + `"]`},
		"an XSSI prefix":                {"application/json", ")]}'\n" + cafe, cafe},
		"Angular's":                     {"application/json", ")]}',\r\n" + cafe, cafe},
		"a mark and a prefix":           {"application/json", "\xEF\xBB\xBF)]}'\n" + cafe, cafe},
		"a type with a suffix":          {"application/vnd.github.v3+json; charset=utf-8", "\xEF\xBB\xBF[1]", "[1]"},
		"problem details":               {"Application/Problem+JSON", "\xEF\xBB\xBF[1]", "[1]"},
		"text/json":                     {"text/json", "\xEF\xBB\xBF[1]", "[1]"},
		"Amazon's":                      {"application/x-amz-json-1.1", "\xEF\xBB\xBF[1]", "[1]"},
		"names that repeat":             {"application/json", `{"a":1,"a":2}`, `{"a":1,"a":2}`},
		"giant numbers":                 {"application/json", `[123456789012345678901234567890,1e999,-0.0]`, `[123456789012345678901234567890,1e999,-0.0]`},
		"a mark before text/html":       {"text/html; charset=UTF-8", "\xEF\xBB\xBF" + cafe, cafe},
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document(c.body, "Content-Type", c.contentType))
			v := e.subscribe(newRequest("/doc"))
			if got := v.got(); !slices.Equal(got, []string{c.want}) {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
		})
	}
}

func TestTextNeedNotBeJSON(t *testing.T) {
	for contentType, documents := range map[string][]string{
		"text/plain":              {"5", "n/a", "", `{"a":`, "\ufeffx"},
		"text/html":               {"<p>1", "", "<p>2"},
		"":                        {"1", "down"},
		"application/x-ndjson":    {`{"a":1}`, "{\"a\":1}\n{\"a\":2}\n"},
		"application/jsonl":       {`{"a":1}`, "{\"a\":1}\n{\"a\":2}\n"},
		"application/stream+json": {`{"a":1}`, "{\"a\":1}\n{\"a\":2}\n"},
		"application/json-seq":    {"\x1e{\"a\":1}\n", "\x1e{\"a\":1}\n\x1e{\"a\":2}\n"},
		"application/json5":       {"{a:1}", "{a:2}"},
		"application/javascript":  {"f({})", "f("},
	} {
		within(t, poll.Config{Interval: second}, func(e *env) {
			e.set(document(documents[0], "Content-Type", contentType))
			v := e.subscribe(newRequest("/doc"))
			for _, body := range documents[1:] {
				e.set(document(body, "Content-Type", contentType))
				advance(2 * time.Second)
			}
			if got := v.got(); !slices.Equal(got, documents) {
				t.Errorf("%s: got %q, want %q", contentType, got, documents)
			}
		})
	}
}

func TestViewOfJSONStaysOneOfJSONWhateverTheTypeSays(t *testing.T) {
	const login = "<!DOCTYPE html><title>Log in</title>"
	for _, contentType := range []string{"text/html; charset=UTF-8", "text/plain", ""} {
		for _, body := range []string{login, `{"n":`, ""} {
			within(t, poll.Config{Interval: second}, func(e *env) {
				e.set(document(`{"n":1}`, "Content-Type", contentType))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(body, "Content-Type", contentType))
				advance(5 * time.Second)
				v.want(t, `{"n":1}`, "stale")
				e.set(document("\xEF\xBB\xBF"+`{"n":2}`, "Content-Type", contentType))
				advance(time.Minute)
				v.want(t, `{"n":1}`, "stale", `{"n":2}`)
			})
		}
	}
}

func TestAbsorbedDocumentIsNeverBrokenJSON(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON(spaced))
		v := e.subscribe(newRequest("/doc"))
		e.set(asJSON(`{"load":NaN}`))
		advance(10*time.Second + 50*ms)
		v.want(t, `{"stock":5,"rest":0.10}`, "stale")
		e.wantNotAbsorbed() // the backend's answer passes to its client
		e.set(asJSON(spaced))
		advance(30 * time.Second)
		e.wantAbsorbed(http.StatusOK, spaced)
	})
}

func TestDeeplyNestedJSONIsStaleAndSaysWhy(t *testing.T) {
	logged(t, poll.Config{Interval: second}, func(e *env, log *observer.ObservedLogs) {
		e.set(asJSON(strings.Repeat("[", 9_995) + strings.Repeat("]", 9_995)))
		v := e.subscribe(newRequest("/doc"))
		v.want(t, "stale")
		if line := fmt.Sprint(log.All()); !strings.Contains(line, "nested deeper") {
			t.Error(line)
		}
	})
}
