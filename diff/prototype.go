package diff

import "bytes"

// isPrototypeName reports whether a JSON string names a member that reaches an
// object's prototype in JavaScript. Libraries that apply patches refuse such a name
// (fast-json-patch), skip it (rfc6902), or give up there (json-merge-patch), and
// pages that store an item by such a key lose it. A change that has to name it is
// sent as the whole document, which JSON.parse reads as it is.
func isPrototypeName(raw []byte) bool {
	name := string(raw)
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ := unescape(raw)
		name = `"` + s + `"`
	}
	switch name {
	case `"__proto__"`, `"constructor"`, `"prototype"`:
		return true
	default:
		return false
	}
}
