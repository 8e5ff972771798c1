package diff

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// maxExponentDigits limits the exponents that are normalized. Numbers with longer
// exponents are equal only if their texts are.
const maxExponentDigits = 17

func numberDigest(text []byte) digest {
	if isPlain(text) {
		return digestOf(text)
	}
	return digestOf(canonicalNumber(text))
}

// isPlain reports whether a number is an integer in its canonical form.
func isPlain(text []byte) bool {
	if text[len(text)-1] == '0' {
		return len(text) == 1
	}
	for _, c := range text {
		if c == '.' || c == 'e' || c == 'E' {
			return false
		}
	}
	return true
}

// canonicalNumber returns a number as its digits, without zeros at either end,
// and a power of ten: -12.50 is -125e-1. Zero has no sign. The result is at most
// a few bytes longer than the number: 1e1000000000 is not written out.
func canonicalNumber(text []byte) []byte {
	rest, negative := bytes.CutPrefix(text, []byte("-"))
	mantissa, exponentText := splitExponent(rest)
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	digits := append(bytes.Clone(whole), fraction...)
	digits = bytes.TrimLeft(digits, "0")
	if len(digits) == 0 {
		return []byte("0")
	}
	significant := bytes.TrimRight(digits, "0")
	exponent, ok := parseExponent(exponentText)
	if !ok {
		return text
	}
	exponent += int64(len(digits)-len(significant)) - int64(len(fraction))
	return formatNumber(negative, significant, exponent)
}

func formatNumber(negative bool, digits []byte, exponent int64) []byte {
	out := make([]byte, 0, len(digits)+24)
	if negative {
		out = append(out, '-')
	}
	out = append(out, digits...)
	if exponent != 0 {
		out = strconv.AppendInt(append(out, 'e'), exponent, 10)
	}
	return out
}

func splitExponent(text []byte) (mantissa, exponent []byte) {
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

func parseExponent(text []byte) (n int64, ok bool) {
	digits := bytes.TrimLeft(text, "+-0")
	if len(digits) == 0 {
		return 0, true
	}
	if len(digits) > maxExponentDigits {
		return 0, false
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if text[0] == '-' {
		n = -n
	}
	return n, err == nil
}

// stringDigest digests a string with its quotes, which distinguish it from a
// number of the same text.
func stringDigest(raw []byte) digest {
	if bytes.IndexByte(raw, '\\') < 0 {
		return digestOf(raw)
	}
	s, ok := unescape(raw)
	if !ok {
		return digestOf(raw).combine(digest{'\\'}) // "\ud800" is not "\\ud800"
	}
	return digestOf([]byte(`"` + s + `"`))
}

// unescape returns the text of a string. It returns false if the string has half
// of a surrogate pair ("\ud800"), which UTF-8 can't represent: encoding/json
// reads it as U+FFFD, JavaScript keeps it. Such strings are equal only if their
// escaped texts are.
func unescape(raw []byte) (s string, ok bool) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", false
	}
	return s, !strings.ContainsRune(s, '\uFFFD') || !hasSurrogate(raw)
}

// hasSurrogate may return true for a string that has none, say "\\ud800".
func hasSurrogate(raw []byte) bool {
	return bytes.Contains(raw, []byte(`\ud`)) || bytes.Contains(raw, []byte(`\uD`))
}

// isText reports whether a string with its quotes is Unicode text.
func isText(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') < 0 || !hasSurrogate(raw) {
		return true
	}
	_, ok := unescape(raw)
	return ok
}

// quote returns a string as JSON in which U+2028 and U+2029 are escaped.
func quote(s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		panic(err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
