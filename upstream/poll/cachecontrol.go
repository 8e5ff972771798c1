package poll

import (
	"net/http"
	"strings"
	"time"
)

// directives yields the directives of Cache-Control (RFC 9111 §5.2): the names in
// lower case, the arguments without quotes. A comma in quotes separates nothing:
// no-cache="a, max-age=60" is one directive.
func directives(h http.Header) func(yield func(name, argument string) bool) {
	return func(yield func(string, string) bool) {
		for _, value := range h["Cache-Control"] {
			for member := range splitUnquoted(value) {
				name, argument, _ := strings.Cut(member, "=")
				name = strings.ToLower(strings.TrimSpace(name))
				if name != "" && !yield(name, strings.Trim(argument, "\" \t")) {
					return
				}
			}
		}
	}
}

// splitUnquoted splits a value at the commas that are in no quotes. A quote that
// isn't closed counts for nothing.
func splitUnquoted(value string) func(yield func(string) bool) {
	unclosed := unclosedQuote(value)
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := 0; i < len(value); i++ {
			switch c := value[i]; {
			case c == '"' && i != unclosed:
				quoted = !quoted
			case c == '\\' && quoted: // RFC 9110 §5.6.4
				i++
			case c == ',' && !quoted:
				if !yield(value[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(value[start:])
	}
}

// unclosedQuote returns where a quote begins that nothing closes, or -1.
func unclosedQuote(value string) int {
	at := -1
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' && at < 0:
			at = i
		case c == '"':
			at = -1
		case c == '\\' && at >= 0:
			i++
		}
	}
	return at
}

// freshness returns how long a response stays fresh (RFC 9111 §4.2), less its
// age.
func freshness(h http.Header) time.Duration {
	fresh := lifetime(h)
	if fresh == 0 {
		return 0
	}
	return max(fresh-seconds(h.Get("Age")), 0)
}

// lifetime returns how long a response may be reused without asking the backend.
// A view is a shared cache, so s-maxage counts before max-age. A response with
// no-cache or no-store may never be; no-cache with names of headers is about
// these only (RFC 9111 §5.2.2.4).
func lifetime(h http.Header) time.Duration {
	if len(h["Cache-Control"]) == 0 {
		return 0
	}
	for name, argument := range directives(h) {
		if name == "no-store" || name == "no-cache" && argument == "" {
			return 0
		}
	}
	if shared, ok := age(h, "s-maxage"); ok {
		return shared
	}
	private, _ := age(h, "max-age")
	return private
}

// age returns the seconds of a directive of Cache-Control, the fewest if it
// occurs more than once, and false if it doesn't occur.
func age(h http.Header, directive string) (least time.Duration, ok bool) {
	for name, argument := range directives(h) {
		if name == directive {
			if d := seconds(argument); !ok || d < least {
				least = d
			}
			ok = true
		}
	}
	return least, ok
}
