package diff

import (
	"context"

	"github.com/caddy-sse/caddy-sse/event"
)

// mergeDiffer describes a change as a JSON merge patch (RFC 7396). There, null
// removes a member, so the patch can't set a member to null or to an object with
// a null in it.
func mergeDiffer(ctx context.Context, from, to *Document) ([]event.Event, error) {
	old, updated := newTree(from.text), newTree(to.text)
	if old.root().kind() != '{' || updated.root().kind() != '{' || old.ambiguous || updated.ambiguous {
		return nil, errSnapshot
	}
	m := mergeWriter{limit: len(to.text), budget: newBudget(ctx, from, to)}
	if !m.writeObject(old.root().object(), updated.root().object()) || len(m.patch) >= m.limit {
		return nil, errSnapshot
	}
	return []event.Event{{Name: "merge", Data: m.patch}}, nil
}

// mergeWriter writes a merge patch that is shorter than limit.
type mergeWriter struct {
	patch  []byte
	limit  int
	budget *budget
}

// writeObject returns false if a merge patch can't describe the change, or would
// reach the limit.
func (m *mergeWriter) writeObject(from, to object) bool {
	m.patch = append(m.patch, '{')
	for _, old := range from.members {
		if _, ok := to.byName[old.name.digest()]; !ok {
			m.writeName(old.name)
			m.patch = append(m.patch, "null,"...)
		}
	}
	for _, updated := range to.members {
		old, exists := from.byName[updated.name.digest()]
		if exists && old.digest() == updated.value.digest() {
			continue
		}
		m.writeName(updated.name)
		if !m.writeValue(old, exists, updated.value) {
			return false
		}
		m.patch = append(m.patch, ',')
	}
	m.patch[len(m.patch)-1] = '}' // replaces the last comma: unequal objects have one
	return len(m.patch) < m.limit
}

func (m *mergeWriter) writeName(name value) {
	m.patch = append(append(m.patch, name.raw()...), ':')
}

func (m *mergeWriter) writeValue(old value, exists bool, updated value) bool {
	if exists && old.kind() == '{' && updated.kind() == '{' {
		return m.writeObject(old.object(), updated.object())
	}
	if hasNull(updated) {
		return false
	}
	if len(m.patch)+len(updated.raw()) >= m.limit || !m.budget.spend(len(updated.raw())) {
		return false
	}
	m.patch = append(m.patch, updated.raw()...)
	return true
}

// hasNull reports whether a value is null or an object with a null in it. Nulls
// in arrays are safe: RFC 7396 takes an array as it is. (For objects in arrays,
// github.com/evanphx/json-patch v5.9.11 doesn't.)
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
