package diff

import (
	"context"

	"github.com/caddy-sse/caddy-sse/event"
)

// mergeDiffer describes a change as a JSON merge patch (RFC 7396). There, null
// removes a member, so the patch can't set a member to null or to an object with
// a null in it. Neither does it name an object's prototype, at any depth that
// clients merge.
func mergeDiffer(ctx context.Context, from, to *Document) ([]event.Event, error) {
	if from.text[0] != '{' || to.text[0] != '{' || from.ambiguous || to.ambiguous {
		return nil, errSnapshot
	}
	m := mergeWriter{comparison: newComparison(ctx, from, to), limit: len(to.text)}
	if !m.writeObject(from.root(), to.root()) || len(m.patch) >= m.limit {
		return nil, errSnapshot
	}
	return []event.Event{{Name: "merge", Data: m.patch}}, nil
}

// mergeWriter writes a merge patch that is shorter than limit.
type mergeWriter struct {
	*comparison
	patch []byte
	limit int
}

// writeObject returns false if a merge patch can't describe the change, or would
// reach the limit.
func (m *mergeWriter) writeObject(from, to value) bool {
	return m.objects(from, to, m.writeMembers)
}

func (m *mergeWriter) writeMembers(from, to *object) bool {
	m.patch = append(m.patch, '{')
	for _, old := range from.members {
		if _, ok := to.member(old.name.digest); !ok {
			if !m.writeName(m.from.raw(old.name)) {
				return false
			}
			m.patch = append(m.patch, "null,"...)
		}
	}
	for _, updated := range to.members {
		old, exists := from.member(updated.name.digest)
		if exists && old.digest == updated.value.digest {
			continue
		}
		if !m.writeName(m.to.raw(updated.name)) || !m.writeValue(old, exists, updated.value) {
			return false
		}
		m.patch = append(m.patch, ',')
	}
	m.patch[len(m.patch)-1] = '}' // replaces the last comma: unequal objects have one
	return len(m.patch) < m.limit
}

func (m *mergeWriter) writeName(raw []byte) bool {
	m.patch = append(append(m.patch, raw...), ':')
	return !isPrototypeName(raw)
}

func (m *mergeWriter) writeValue(old value, exists bool, updated value) bool {
	if exists && m.from.kind(old) == '{' && m.to.kind(updated) == '{' {
		return m.writeObject(old, updated)
	}
	raw := m.to.raw(updated)
	if ok, _ := isMergeable(raw, 0); !ok {
		return false
	}
	if len(m.patch)+len(raw) >= m.limit || !m.budget.spend(len(raw)) {
		return false
	}
	m.patch = append(m.patch, raw...)
	return true
}

// isMergeable reports whether a merge patch can hold the value at a position, and
// returns the position after it if so: it is neither null nor an object with a null
// or the name of a prototype in it. Both are safe in arrays: RFC 7396 takes an array
// as it is. (For objects in arrays, github.com/evanphx/json-patch v5.9.11 doesn't.)
func isMergeable(text []byte, at int) (ok bool, end int) {
	if text[at] != '{' {
		return text[at] != 'n', endOfValue(text, at)
	}
	for at++; text[at] != '}'; {
		if text[at] == ',' {
			at++
		}
		colon := endOfString(text, at)
		if isPrototypeName(text[at:colon]) {
			return false, 0
		}
		if ok, at = isMergeable(text, colon+1); !ok {
			return false, 0
		}
	}
	return true, at + 1
}
