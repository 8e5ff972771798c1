package diff

import (
	"context"

	"github.com/caddy-sse/caddy-sse/event"
)

// mergeDiff says a change as a JSON merge patch (RFC 7396). There null means
// that a member is gone, so a member that becomes null, alone or somewhere in an
// object, can't be said.
func mergeDiff(_ context.Context, from, to *Document) ([]event.Event, error) {
	old, now := newTree(from.text), newTree(to.text)
	if old.root().kind() != '{' || now.root().kind() != '{' || old.ambiguous || now.ambiguous {
		return nil, errWhole
	}
	m := merger{limit: len(to.text)}
	if !m.object(old.root().object(), now.root().object()) || len(m.patch) >= m.limit {
		return nil, errWhole
	}
	return []event.Event{{Name: "merge", Data: m.patch}}, nil
}

// merger writes a merge patch.
type merger struct {
	patch []byte
	limit int // where it stops to be worth it
}

// object returns false if the change can't be said, or not within the limit.
func (m *merger) object(old, now object) bool {
	m.patch = append(m.patch, '{')
	for _, was := range old.members {
		if _, kept := now.byName[was.name.sum()]; !kept {
			m.patch = append(append(m.name(was.name), "null"...), ',')
		}
	}
	for _, is := range now.members {
		was, known := old.byName[is.name.sum()]
		if known && was.sum() == is.value.sum() {
			continue
		}
		m.patch = m.name(is.name)
		if !m.value(was, known, is.value) {
			return false
		}
		m.patch = append(m.patch, ',')
	}
	m.patch[len(m.patch)-1] = '}' // in the place of the last comma: objects that differ have one
	return len(m.patch) < m.limit
}

func (m *merger) name(name value) []byte { return append(append(m.patch, name.raw()...), ':') }

func (m *merger) value(was value, known bool, is value) bool {
	if known && was.kind() == '{' && is.kind() == '{' {
		return m.object(was.object(), is.object())
	}
	if hasNull(is) {
		return false
	}
	m.patch = append(m.patch, is.raw()...)
	return len(m.patch) < m.limit
}

// hasNull tells whether a value is null or an object that has one in it. Those
// in arrays are safe: an array is taken as it is, says the RFC, though
// github.com/evanphx/json-patch v5.9.11 takes them out of objects in arrays.
func hasNull(v value) bool {
	for i := v.at; i < v.node().next; {
		switch n := v.tree.nodes[i]; v.tree.text[n.start] {
		case 'n':
			return true
		case '[':
			i = n.next
		default:
			i++
		}
	}
	return false
}
