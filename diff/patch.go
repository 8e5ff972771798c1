package diff

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
)

// patchDiff says a change as a JSON Patch (RFC 6902), in which it uses add,
// remove and replace only.
//
// It is our own since the library at hand, github.com/wI2L/jsondiff v0.7.1,
// leaves a choice between lists compared place by place, where one new item at
// the front rewrites all of the list, and its LCS option, which takes time and
// memory by the product of the lengths: a second and 130 MiB for a list of 4000
// items in 98 KiB. Its Factorize option takes all json.Numbers for equal, and
// says {"b":2} as a copy of 3.
func patchDiff(_ context.Context, from, to *Document) ([]event.Event, error) {
	old, now := newTree(from.text), newTree(to.text)
	if old.ambiguous || now.ambiguous {
		return nil, errWhole
	}
	p := patcher{patch: []byte("[")}
	p.edit(old.root(), now.root())
	data := append(p.patch, ']')
	if len(data) >= len(to.text) {
		return nil, errWhole
	}
	return []event.Event{{Name: "patch", Data: data}}, nil
}

// patcher writes a patch.
type patcher struct {
	patch []byte
	path  []byte // where the operation applies: a JSON pointer as JSON, without quotes
}

// edit writes what makes old new, in small steps or in a single one, whichever
// is shorter. Steps end as soon as they have become longer, which also bounds
// what is written of two documents that have nothing in common.
func (p *patcher) edit(old, now value) {
	if old.sum() == now.sum() {
		return
	}
	start := len(p.patch)
	limit := start + len(`,{"op":"replace","path":"","value":}`) + len(p.path) + len(now.raw())
	if p.steps(old, now, limit) && len(p.patch) <= limit {
		return
	}
	p.patch = p.patch[:start]
	p.op("replace", now.raw())
}

// steps returns false if it can't do it, or not within the limit.
func (p *patcher) steps(old, now value, limit int) bool {
	switch {
	case old.kind() == '{' && now.kind() == '{':
		return p.members(old.object(), now.object(), limit)
	case old.kind() == '[' && now.kind() == '[':
		return p.items(old.items(), now.items(), limit)
	default:
		return false
	}
}

// members never goes down through a member whose name is empty, but puts it
// anew: "//a" is a valid path that not every client can follow, among them
// github.com/evanphx/json-patch v5.9.11. To add a member that is there replaces
// it (RFC 6902, section 4.1).
func (p *patcher) members(old, now object, limit int) bool {
	for _, m := range old.members {
		if _, kept := now.byName[m.name.sum()]; !kept && !p.at(nameToken(m.name), limit, p.remove) {
			return false
		}
	}
	for _, m := range now.members {
		was, known := old.byName[m.name.sum()]
		if known && was.sum() == m.value.sum() {
			continue
		}
		token := nameToken(m.name)
		if !p.at(token, limit, func() { p.put(was, known && token != "", m.value) }) {
			return false
		}
	}
	return true
}

// items writes how a list has changed. When it comes to a gap, all before it is
// as in the new list already, so that the index there is the new list's.
func (p *patcher) items(old, now []value, limit int) bool {
	for _, g := range gaps(old, now) {
		from, to := old[g.oldStart:g.oldEnd], now[g.newStart:g.newEnd]
		for i, v := range to {
			known := i < len(from)
			var was value
			if known {
				was = from[i]
			}
			if !p.at(indexToken(g.newStart+i), limit, func() { p.put(was, known, v) }) {
				return false
			}
		}
		for range len(from) - len(to) {
			if !p.at(indexToken(g.newEnd), limit, p.remove) {
				return false
			}
		}
	}
	return true
}

// at writes operations one level further down.
func (p *patcher) at(token string, limit int, write func()) (within bool) {
	length := len(p.path)
	p.path = append(append(p.path, '/'), token...)
	write()
	p.path = p.path[:length]
	return len(p.patch) <= limit
}

// put writes an operation that puts v at the path, or those which make v of what
// is known to be there.
func (p *patcher) put(was value, known bool, v value) {
	if known {
		p.edit(was, v)
		return
	}
	p.op("add", v.raw())
}

func (p *patcher) remove() { p.op("remove", nil) }

func (p *patcher) op(name string, value []byte) {
	if len(p.patch) > 1 {
		p.patch = append(p.patch, ',')
	}
	p.patch = append(append(p.patch, `{"op":"`...), name...)
	p.patch = append(append(p.patch, `","path":"`...), p.path...)
	p.patch = append(p.patch, '"')
	if value != nil {
		p.patch = append(append(p.patch, `,"value":`...), value...)
	}
	p.patch = append(p.patch, '}')
}

func indexToken(i int) string { return strconv.Itoa(i) }

// pointerEscapes are those of RFC 6901, section 4.
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// nameToken is a member's name in a path. An escape in the name as it came may
// hide a character that the path must escape ("\u002f", "\/").
func nameToken(name value) string {
	raw := name.raw()
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ := unescape(raw)
		raw = quote(s)
	}
	return pointerEscapes.Replace(string(raw[1 : len(raw)-1]))
}
