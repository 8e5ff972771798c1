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
	return func(_ context.Context, from, to *Document) ([]event.Event, error) {
		fromList, okFrom := newKeyedList(newTree(from.text).root(), path)
		toList, okTo := newKeyedList(newTree(to.text).root(), path)
		if !okFrom || !okTo {
			return nil, errSnapshot
		}
		return itemEvents(fromList, toList)
	}, nil
}

// keyedList is a list of items with unique keys.
type keyedList struct {
	items []item
	byKey map[digest]value
}

type item struct{ key, value value }

// newKeyedList returns false unless v is a list of objects that each have a
// unique string or number at the path.
func newKeyedList(v value, path []digest) (keyedList, bool) {
	if v.kind() != '[' {
		return keyedList{}, false
	}
	l := keyedList{byKey: make(map[digest]value)}
	for it := range v.children() {
		key, ok := keyOf(it, path)
		if !ok {
			return keyedList{}, false
		}
		l.items = append(l.items, item{key, it})
		l.byKey[key.digest()] = it
	}
	return l, len(l.byKey) == len(l.items)
}

func keyOf(v value, path []digest) (key value, ok bool) {
	for _, name := range path {
		if v, ok = v.member(name); !ok {
			return value{}, false
		}
	}
	return v, !slices.Contains([]byte("{[ntf"), v.kind())
}

// itemEvents returns removals, then changes, then additions: a client never
// holds more items than it must.
func itemEvents(from, to keyedList) ([]event.Event, error) {
	var removed, changed, added []event.Event
	full := func() bool { return len(removed)+len(changed)+len(added) > MaxItemEvents }
	for _, it := range from.items {
		if _, ok := to.byKey[it.key.digest()]; !ok && !full() {
			removed = append(removed, itemEvent("removed", it.key, value{}, it.value))
		}
	}
	for _, it := range to.items {
		if full() {
			return nil, errSnapshot
		}
		old, ok := from.byKey[it.key.digest()]
		switch {
		case !ok:
			added = append(added, itemEvent("added", it.key, it.value, value{}))
		case old.digest() != it.value.digest():
			changed = append(changed, itemEvent("changed", it.key, it.value, old))
		}
	}
	if full() {
		return nil, errSnapshot
	}
	return slices.Concat(removed, changed, added), nil
}

// itemEvent leaves out item or old if it is the zero value.
func itemEvent(name string, key, item, old value) event.Event {
	data := append([]byte(`{"key":`), key.raw()...)
	if item.tree != nil {
		data = append(append(data, `,"item":`...), item.raw()...)
	}
	if old.tree != nil {
		data = append(append(data, `,"old":`...), old.raw()...)
	}
	return event.Event{Name: name, Data: append(data, '}')}
}
