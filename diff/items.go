package diff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
)

// MaxItemEvents is how many items may change at once. Where more do, the whole
// document is sent: their events would push all others out of the history.
const MaxItemEvents = 1000

// newItemsDiff says a change as that of a list's items, which a member tells
// apart. Their order is not part of what is said.
func newItemsDiff(key string) (differ, error) {
	if key == "" {
		return nil, errors.New(`"items" needs the member that tells items apart, say: items id`)
	}
	var path []sum
	for name := range strings.SplitSeq(key, ".") {
		if name == "" {
			return nil, fmt.Errorf("items %q: a member's name is empty; write a name, or names with dots between them, say: items meta.id", key)
		}
		path = append(path, sumOfString(quote(name)))
	}
	return func(_ context.Context, from, to *Document) ([]event.Event, error) {
		old, okOld := newListing(newTree(from.text).root(), path)
		now, okNew := newListing(newTree(to.text).root(), path)
		if !okOld || !okNew {
			return nil, errWhole
		}
		return itemEvents(old, now)
	}, nil
}

// listing is a list of items by their keys.
type listing struct {
	items []item
	byKey map[sum]value
}

type item struct{ key, value value }

// newListing returns false if v isn't a list of objects that each have a key of
// their own: a string or a number at the path.
func newListing(v value, path []sum) (listing, bool) {
	if v.kind() != '[' {
		return listing{}, false
	}
	l := listing{byKey: make(map[sum]value)}
	for it := range v.inside() {
		key, ok := keyOf(it, path)
		if !ok {
			return listing{}, false
		}
		l.items = append(l.items, item{key, it})
		l.byKey[key.sum()] = it
	}
	return l, len(l.byKey) == len(l.items)
}

func keyOf(v value, path []sum) (key value, ok bool) {
	for _, name := range path {
		if v, ok = v.member(name); !ok {
			return value{}, false
		}
	}
	return v, !slices.Contains([]byte("{[ntf"), v.kind())
}

// itemEvents are in the order removed, changed, added, so that a client never
// holds more than it must.
func itemEvents(old, now listing) ([]event.Event, error) {
	var removed, changed, added []event.Event
	for _, it := range old.items {
		if _, kept := now.byKey[it.key.sum()]; !kept {
			removed = append(removed, itemEvent("removed", it.key, value{}, it.value))
		}
	}
	for _, it := range now.items {
		was, known := old.byKey[it.key.sum()]
		switch {
		case !known:
			added = append(added, itemEvent("added", it.key, it.value, value{}))
		case was.sum() != it.value.sum():
			changed = append(changed, itemEvent("changed", it.key, it.value, was))
		}
	}
	events := slices.Concat(removed, changed, added)
	if len(events) > MaxItemEvents {
		return nil, errWhole
	}
	return events, nil
}

// itemEvent has no item, or no old one, where the value is the zero one.
func itemEvent(name string, key, now, was value) event.Event {
	data := append([]byte(`{"key":`), key.raw()...)
	if now.tree != nil {
		data = append(append(data, `,"item":`...), now.raw()...)
	}
	if was.tree != nil {
		data = append(append(data, `,"old":`...), was.raw()...)
	}
	return event.Event{Name: name, Data: append(data, '}')}
}
