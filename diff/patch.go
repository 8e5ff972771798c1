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
func patchDiffer(ctx context.Context, from, to *Document) ([]event.Event, error) {
	if from.ambiguous || to.ambiguous {
		return nil, errSnapshot
	}
	p := patchWriter{comparison: newComparison(ctx, from, to), patch: []byte("[")}
	if !p.writeChange(from.root(), to.root(), len(to.text)-len(`] `)) {
		return nil, errSnapshot
	}
	return []event.Event{{Name: "patch", Data: append(p.patch, ']')}}, nil
}

// patchWriter writes a patch. Each of its methods that writes takes the number
// of bytes that the whole patch may have afterwards, and reports whether it
// was enough.
type patchWriter struct {
	*comparison
	patch []byte
	path  []byte // of the current value: a JSON Pointer as JSON, without quotes

	namesPrototype bool // a path would; the document is sent whole
}

// writeChange writes the operations that turn from into to, or a single replace
// if that is shorter.
func (p *patchWriter) writeChange(from, to value, max int) bool {
	if from.digest == to.digest {
		return true
	}
	start := len(p.patch)
	limit := start + len(`,{"op":"replace","path":"","value":}`) + len(p.path) + to.len()
	if p.writeSteps(from, to, min(limit, max)) {
		return true
	}
	if p.namesPrototype {
		return false
	}
	p.patch = p.patch[:start]
	return p.writeOperation("replace", p.to.raw(to), max)
}

// writeSteps returns false also if the values aren't containers of one kind.
func (p *patchWriter) writeSteps(from, to value, max int) bool {
	switch kind := p.from.kind(from); {
	case kind != p.to.kind(to):
		return false
	case kind == '{':
		return p.objects(from, to, func(from, to *object) bool { return p.writeMembers(from, to, max) })
	case kind == '[':
		return p.arrays(from, to, func(skipped int, from, to []value) bool { return p.writeItems(skipped, from, to, max) })
	default:
		return false
	}
}

// writeMembers adds a member of an empty name again instead of changing its
// contents: "//a" is a valid path that some clients can't follow, among them
// github.com/evanphx/json-patch v5.9.11. An add replaces an existing member (RFC
// 6902 §4.1).
func (p *patchWriter) writeMembers(from, to *object, max int) bool {
	for _, m := range from.members {
		if _, ok := to.member(m.name.digest); !ok && !p.writeAtName(p.from.raw(m.name), p.removal(max)) {
			return false
		}
	}
	for _, m := range to.members {
		old, exists := from.member(m.name.digest)
		if exists && old.digest == m.value.digest {
			continue
		}
		name := p.to.raw(m.name)
		if !p.writeAtName(name, func() bool { return p.writeValue(old, exists && len(name) > len(`""`), m.value, max) }) {
			return false
		}
	}
	return true
}

// writeItems writes the changes of a list hunk by hunk, after as many items as
// are skipped. All items before the current hunk are those of the new list
// already, so its index is the new list's.
func (p *patchWriter) writeItems(skipped int, from, to []value, max int) bool {
	hunks, ok := diffLists(from, to, p.budget)
	if !ok {
		return false
	}
	for _, h := range hunks {
		removed, added := from[h.fromStart:h.fromEnd], to[h.toStart:h.toEnd]
		for i, v := range added {
			var old value
			exists := i < len(removed)
			if exists {
				old = removed[i]
			}
			if !p.writeAt(indexToken(skipped+h.toStart+i), func() bool { return p.writeValue(old, exists, v, max) }) {
				return false
			}
		}
		for range len(removed) - len(added) {
			if !p.writeAt(indexToken(skipped+h.toEnd), p.removal(max)) {
				return false
			}
		}
	}
	return true
}

// writeAtName is writeAt for the member of a name, which is JSON. It returns false
// for names that clients can't follow.
func (p *patchWriter) writeAtName(name []byte, write func() bool) bool {
	if isPrototypeName(name) {
		p.namesPrototype = true
		return false
	}
	return p.writeAt(nameToken(name), write)
}

// writeAt calls write one level further down.
func (p *patchWriter) writeAt(token string, write func() bool) bool {
	length := len(p.path)
	p.path = append(append(p.path, '/'), token...)
	ok := write()
	p.path = p.path[:length]
	return ok
}

// writeValue adds v at the path, or turns the old value there into v.
func (p *patchWriter) writeValue(old value, exists bool, v value, max int) bool {
	if exists {
		return p.writeChange(old, v, max)
	}
	return p.writeOperation("add", p.to.raw(v), max)
}

func (p *patchWriter) removal(max int) func() bool {
	return func() bool { return p.writeOperation("remove", nil, max) }
}

// writeOperation writes an operation whole or not at all.
func (p *patchWriter) writeOperation(op string, value []byte, max int) bool {
	size := len(`{"op":"","path":""}`) + len(op) + len(p.path)
	if len(p.patch) > 1 {
		size++ // the comma
	}
	if value != nil {
		size += len(`,"value":`) + len(value)
	}
	if len(p.patch)+size > max || !p.budget.spend(size) {
		return false
	}
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
	return true
}

func indexToken(i int) string { return strconv.Itoa(i) }

// pointerEscapes are those of a JSON Pointer (RFC 6901 §4).
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// nameToken returns a member's name as a token of a path. It decodes JSON
// escapes first: they may hide a slash or a tilde ("\u002f", "\/").
func nameToken(raw []byte) string {
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ := unescape(raw)
		raw = quote(s)
	}
	return pointerEscapes.Replace(string(raw[1 : len(raw)-1]))
}
