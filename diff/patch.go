package diff

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
)

// patchDiffer describes a change as a JSON Patch (RFC 6902) of the operations
// add, remove and replace.
//
// github.com/wI2L/jsondiff v0.7.1 doesn't serve: it either compares lists index
// by index, where one new item at the front rewrites the whole list, or with its
// LCS option takes time and memory by the product of the lengths: a second and
// 130 MiB for a list of 4000 items in 98 KiB. Its Factorize option takes all
// json.Numbers for equal, and describes {"b":2} as a copy of 3.
func patchDiffer(_ context.Context, from, to *Document) ([]event.Event, error) {
	old, updated := newTree(from.text), newTree(to.text)
	if old.ambiguous || updated.ambiguous {
		return nil, errSnapshot
	}
	p := patchWriter{patch: []byte("[")}
	p.writeChange(old.root(), updated.root())
	data := append(p.patch, ']')
	if len(data) >= len(to.text) {
		return nil, errSnapshot
	}
	return []event.Event{{Name: "patch", Data: data}}, nil
}

// patchWriter writes a patch.
type patchWriter struct {
	patch []byte
	path  []byte // of the current value: a JSON Pointer as JSON, without quotes
}

// writeChange writes the operations that turn from into to, or a single replace
// if that is shorter. Operations end as soon as they are longer, which also
// bounds the patch of two documents that have nothing in common.
func (p *patchWriter) writeChange(from, to value) {
	if from.digest() == to.digest() {
		return
	}
	start := len(p.patch)
	limit := start + len(`,{"op":"replace","path":"","value":}`) + len(p.path) + len(to.raw())
	if p.writeSteps(from, to, limit) && len(p.patch) <= limit {
		return
	}
	p.patch = p.patch[:start]
	p.writeOperation("replace", to.raw())
}

// writeSteps returns false if the values aren't containers of one kind, or the
// patch would exceed the limit.
func (p *patchWriter) writeSteps(from, to value, limit int) bool {
	switch {
	case from.kind() == '{' && to.kind() == '{':
		return p.writeMembers(from.object(), to.object(), limit)
	case from.kind() == '[' && to.kind() == '[':
		return p.writeItems(from.items(), to.items(), limit)
	default:
		return false
	}
}

// writeMembers adds a member of an empty name again instead of changing its
// contents: "//a" is a valid path that some clients can't follow, among them
// github.com/evanphx/json-patch v5.9.11. An add replaces an existing member (RFC
// 6902 §4.1).
func (p *patchWriter) writeMembers(from, to object, limit int) bool {
	for _, m := range from.members {
		if _, ok := to.byName[m.name.digest()]; !ok && !p.descend(nameToken(m.name), limit, p.writeRemove) {
			return false
		}
	}
	for _, m := range to.members {
		old, exists := from.byName[m.name.digest()]
		if exists && old.digest() == m.value.digest() {
			continue
		}
		token := nameToken(m.name)
		if !p.descend(token, limit, func() { p.writeValue(old, exists && token != "", m.value) }) {
			return false
		}
	}
	return true
}

// writeItems writes the changes of a list hunk by hunk. All items before the
// current hunk are those of the new list already, so its index is the new list's.
func (p *patchWriter) writeItems(from, to []value, limit int) bool {
	for _, h := range diffLists(from, to) {
		removed, added := from[h.fromStart:h.fromEnd], to[h.toStart:h.toEnd]
		for i, v := range added {
			var old value
			exists := i < len(removed)
			if exists {
				old = removed[i]
			}
			if !p.descend(indexToken(h.toStart+i), limit, func() { p.writeValue(old, exists, v) }) {
				return false
			}
		}
		for range len(removed) - len(added) {
			if !p.descend(indexToken(h.toEnd), limit, p.writeRemove) {
				return false
			}
		}
	}
	return true
}

// descend calls write one level further down, and reports whether the patch is
// within the limit.
func (p *patchWriter) descend(token string, limit int, write func()) bool {
	length := len(p.path)
	p.path = append(append(p.path, '/'), token...)
	write()
	p.path = p.path[:length]
	return len(p.patch) <= limit
}

// writeValue adds v at the path, or turns the old value there into v.
func (p *patchWriter) writeValue(old value, exists bool, v value) {
	if exists {
		p.writeChange(old, v)
		return
	}
	p.writeOperation("add", v.raw())
}

func (p *patchWriter) writeRemove() { p.writeOperation("remove", nil) }

func (p *patchWriter) writeOperation(op string, value []byte) {
	if len(p.patch) > 1 {
		p.patch = append(p.patch, ',')
	}
	p.patch = append(append(p.patch, `{"op":"`...), op...)
	p.patch = append(append(p.patch, `","path":"`...), p.path...)
	p.patch = append(p.patch, '"')
	if value != nil {
		p.patch = append(append(p.patch, `,"value":`...), value...)
	}
	p.patch = append(p.patch, '}')
}

func indexToken(i int) string { return strconv.Itoa(i) }

// pointerEscapes are those of a JSON Pointer (RFC 6901 §4).
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// nameToken returns a member's name as a token of a path. It decodes JSON
// escapes first: they may hide a slash or a tilde ("\u002f", "\/").
func nameToken(name value) string {
	raw := name.raw()
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ := unescape(raw)
		raw = quote(s)
	}
	return pointerEscapes.Replace(string(raw[1 : len(raw)-1]))
}
