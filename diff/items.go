package diff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
)

// MaxItemEvents is the maximum number of items that may change at once. If more
// do, a snapshot is sent: their events would push all others out of the history.
const MaxItemEvents = 1000

// newItemsDiffer returns a differ that describes the changes of a list's items.
// The member named by key identifies an item. The items' order doesn't matter.
func newItemsDiffer(key string) (differ, error) {
	if key == "" {
		return nil, errors.New(`"items" needs the member that identifies an item, say: items id`)
	}
	var path []digest
	for name := range strings.SplitSeq(key, ".") {
		if name == "" {
			return nil, fmt.Errorf("items %q: a member's name is empty; write a name, or names with dots between them, say: items meta.id", key)
		}
		path = append(path, stringDigest(quote(name)))
	}
	return func(ctx context.Context, from, to *Document) ([]event.Event, error) {
		work := newBudget(ctx, from, to)
		fromList, okFrom := newKeyedList(from, path, work)
		toList, okTo := newKeyedList(to, path, work)
		if !okFrom || !okTo {
			return nil, errSnapshot
		}
		return itemEvents(fromList, toList)
	}, nil
}

// keyedList is a list of items with unique keys. As members, they are in the
// order of the text, and found by their keys.
type keyedList struct {
	side
	items *object
}

// newKeyedList returns false unless the document is a list of objects that each
// have a unique string or number at the path, and the budget suffices.
func newKeyedList(d *Document, path []digest, work *budget) (keyedList, bool) {
	l := keyedList{side: side{d.text}}
	if d.text[0] != '[' || !work.spend(len(d.text)) {
		return l, false
	}
	whole := stretch{start: 1, end: len(d.text) - 1}
	whole.countContents(d.text)
	if !work.reserve((memberSize + itemSize) * whole.count) {
		return l, false
	}
	members := make([]member, 0, whole.count)
	scan := newScanner(d.text)
	defer scan.free()
	for _, v := range l.side.items(d.root(), whole) {
		at, ok := l.find(int(v.start), path)
		if !ok || !work.spend(v.len()) {
			return l, false
		}
		members = append(members, member{scan.located(at), v})
	}
	l.items = newObject(members)
	return l, l.items.isUnique()
}

// find returns the position of the string or number at a path in the value at a
// position. Of two members of one name, the last one counts.
func (s side) find(at int, path []digest) (found int, ok bool) {
	scan := newScanner(s.text)
	defer scan.free()
	for _, name := range path {
		if s.text[at] != '{' {
			return 0, false
		}
		found = 0
		for at++; s.text[at] != '}'; {
			if s.text[at] == ',' {
				at++
			}
			member := scan.located(at)
			if at = int(member.end) + 1; member.digest == name {
				found = at
			}
			at = endOfValue(s.text, at)
		}
		if at = found; found == 0 {
			return 0, false
		}
	}
	return at, !slices.Contains([]byte("{[ntf"), s.text[at])
}

// itemEvents returns removals, then changes, then additions: a client never
// holds more items than it must. An item whose key is the name of a prototype needs
// a snapshot if it changes: pages keep items in objects, by their keys.
func itemEvents(from, to keyedList) ([]event.Event, error) {
	var removed, changed, added []event.Event
	full := func() bool { return len(removed)+len(changed)+len(added) > MaxItemEvents }
	for _, it := range from.items.members {
		if _, ok := to.items.member(it.name.digest); !ok && !full() {
			if isPrototypeName(from.raw(it.name)) {
				return nil, errSnapshot
			}
			removed = append(removed, itemEvent("removed", from.raw(it.name), nil, from.raw(it.value)))
		}
	}
	for _, it := range to.items.members {
		if full() {
			return nil, errSnapshot
		}
		old, ok := from.items.member(it.name.digest)
		switch {
		case (!ok || old.digest != it.value.digest) && isPrototypeName(to.raw(it.name)):
			return nil, errSnapshot
		case !ok:
			added = append(added, itemEvent("added", to.raw(it.name), to.raw(it.value), nil))
		case old.digest != it.value.digest:
			changed = append(changed, itemEvent("changed", to.raw(it.name), to.raw(it.value), from.raw(old)))
		}
	}
	if full() {
		return nil, errSnapshot
	}
	return slices.Concat(removed, changed, added), nil
}

// itemEvent leaves out item or old if it is nil.
func itemEvent(name string, key, item, old []byte) event.Event {
	const members = len(`{"key":,"item":,"old":}`)
	data := make([]byte, 0, members+len(key)+len(item)+len(old))
	data = append(append(data, `{"key":`...), key...)
	if item != nil {
		data = append(append(data, `,"item":`...), item...)
	}
	if old != nil {
		data = append(append(data, `,"old":`...), old...)
	}
	return event.Event{Name: name, Data: append(data, '}')}
}
