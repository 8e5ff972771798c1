package poll_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestUnselectedPartIsNoChange(t *testing.T) {
	for name, again := range map[string]string{
		"another member":  `{"orders":[1,2.50],"at":2}`,
		"order and space": "{ \"at\":1,\n\"orders\":[ 1, 2.50 ] }",
		"nothing else":    `{"orders":[1,2.50]}`,
	} {
		for _, send := range []string{"full", "patch"} {
			within(t, poll.Config{Select: ".orders", Send: send}, func(e *env) {
				e.set(document(`{"orders":[1,2.50],"at":1}`, "ETag", `"1"`))
				v := e.subscribe(newRequest("/doc"))
				e.set(document(again, "ETag", `"2"`))
				advance(time.Minute)
				if got := v.got(); !slices.Equal(got, []string{"[1,2.50]"}) {
					t.Errorf("%s, %s: %q", send, name, got)
				}
				if tag := e.last().Header.Get("If-None-Match"); tag != `"2"` {
					t.Errorf("%s, %s: the entity tag %s is sent, want that of the newest answer", send, name, tag)
				}
				e.set(document(`{"orders":[1],"at":3}`))
				advance(2 * time.Second)
				if got := v.got(); !slices.Equal(got, []string{"[1,2.50]", "[1]"}) {
					t.Errorf("%s, %s: %q after a change", send, name, got)
				}
			})
		}
	}
}

func TestUnselectedChangeLengthensPause(t *testing.T) {
	within(t, poll.Config{Interval: 2 * second, Max: 60 * second, Select: ".a"}, func(e *env) {
		n := 0
		e.set(document(`{"a":1}`))
		e.subscribe(newRequest("/doc"))
		for range 100 {
			n++
			e.set(document(fmt.Sprintf(`{"a":1,"n":%d}`, n)))
			advance(time.Second)
		}
		if e.polls() > 10 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

func TestSelectKeepsNumbersExact(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":12345678901234567890}`:               `12345678901234567890`,
		`{"a":9007199254740993}`:                   `9007199254740993`,
		`{"a":[0.1000000000000000055,1e400,-0.0]}`: `[0.1000000000000000055,1e400,-0.0]`,
	} {
		within(t, poll.Config{Select: ".a"}, func(e *env) {
			e.set(document(body))
			v := e.subscribe(newRequest("/doc"))
			v.want(t, want)
			e.set(document(strings.Replace(body, "9", "8", 1)))
			advance(2 * time.Second)
			if changed := strings.Contains(body, "9"); changed != (len(v.got()) == 2) {
				t.Errorf("%s: %q", body, v.got())
			}
		})
	}
}

func TestSelectErrorMakesDocumentStaleUntilItWorks(t *testing.T) {
	for name, c := range map[string]struct{ program, bad string }{
		"several outputs": {".a[]", `{"a":[1,2]}`},
		"no output":       {".a[]", `{"a":[]}`},
		"a failure":       {".a[]", `{"a":5}`},
		"an error":        {`.a[] | if . == 2 then error("secret") else . end`, `{"a":[2]}`},
		"no JSON":         {".a[]", `<html>`},
		"two texts":       {".a[]", `{"a":[1]}{"a":[1]}`},
		"empty":           {".a[]", ``},
		"not UTF-8":       {".a[]", "\xff"},
	} {
		within(t, poll.Config{Select: c.program}, func(e *env) {
			e.set(document(`{"a":[1]}`, "ETag", `"1"`))
			v := e.subscribe(newRequest("/doc"))
			e.set(document(c.bad, "ETag", `"2"`))
			advance(time.Minute)
			if got := v.got(); !slices.Equal(got, []string{"1", "stale"}) {
				t.Fatalf("%s: %q", name, got)
			}
			if data := string(v.events()[1].Data); !strings.Contains(data, `"status":502,`) || strings.Contains(data, "secret") {
				t.Errorf("%s: %s", name, data)
			}
			if tag := e.last().Header.Get("If-None-Match"); tag == `"2"` {
				t.Errorf("%s: a 304 to the tag of what can't be read would be taken for the last document", name)
			}
			e.set(document(`{"a":[1]}`, "ETag", `"1"`))
			advance(time.Minute)
			v.want(t, "1", "stale", "1")
		})
		within(t, poll.Config{Select: c.program}, func(e *env) {
			e.set(document(c.bad))
			v := e.subscribe(newRequest("/doc"))
			v.want(t, "stale")
			e.set(document(`{"a":[1]}`))
			advance(time.Minute)
			if got := v.got(); !slices.Equal(got, []string{"stale", "1"}) {
				t.Errorf("%s at first: %q", name, got)
			}
		})
	}
}

func TestSendProgramErrorSendsSnapshot(t *testing.T) {
	logged(t, poll.Config{Send: "jq", SendArgument: `{event: "sum", data: (.new | add)}`, First: "document"}, func(e *env, log *observer.ObservedLogs) {
		e.set(document("[1,2]"))
		v := e.subscribe(newRequest("/doc"))
		e.set(document("[1,2,3]"))
		advance(2 * time.Second)
		e.set(document(`[1,"x"]`)) // a number and a string have no sum
		advance(2 * time.Second)
		e.set(document("[4]"))
		advance(2 * time.Second)
		v.want(t, "[1,2]", "sum", `[1,"x"]`, "sum")
		if lines := log.FilterMessageSnippet("can't be expressed as events").All(); len(lines) != 1 {
			t.Errorf("%+v", log.All())
		}
	})
}

func TestSendProgramMayDropChange(t *testing.T) {
	within(t, poll.Config{Send: "jq", SendArgument: `select(.new.n % 10 == 0) | {data: .new.n}`, First: "document"}, func(e *env) {
		e.set(document(`{"n":10}`))
		v := e.subscribe(newRequest("/doc"))
		for n := 11; n < 20; n++ {
			e.set(document(fmt.Sprintf(`{"n":%d}`, n)))
			advance(2 * time.Second)
		}
		v.want(t, `{"n":10}`)
		e.subscribe(newRequest("/doc")).want(t, `{"n":19}`) // newer than the event whose place it takes
		e.resume(newRequest("/doc"), v.lastID()).want(t)
		e.set(document(`{"n":20}`))
		advance(2 * time.Second)
		v.want(t, `{"n":10}`, "20")
	})
}
