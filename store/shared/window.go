package shared

import "github.com/caddy-sse/caddy-sse/store"

// window holds the keys and given ids of the newest blocks. A proposal that was made
// before one of these blocks was known is compared with it here. All nodes have the
// same window.
type window struct {
	items []windowItem // in the order of the log
	keys  map[scopedKey]windowItem
	ids   map[string]windowItem
	// floor is the lowest base of a block that can still be compared.
	floor uint64
}

// maxWindow bounds the items of a window.
const maxWindow = 1 << 14

// scopedKey identifies an idempotency record in the whole log.
type scopedKey struct {
	scope string
	key   store.HashedKey
}

// windowItem is a key or a given id.
type windowItem struct {
	seq uint64 // of the block

	key     scopedKey
	outcome string

	id       string // empty for a key
	topics   []string
	position uint64
}

func newWindow(floor uint64) *window {
	return &window{keys: make(map[scopedKey]windowItem), ids: make(map[string]windowItem), floor: floor}
}

func (w *window) add(i windowItem) {
	w.items = append(w.items, i)
	if i.id != "" {
		w.ids[i.id] = i
	} else {
		w.keys[i.key] = i
	}
	for len(w.items) > maxWindow && w.items[0].seq < i.seq {
		w.drop()
	}
}

func (w *window) drop() {
	i := w.items[0]
	w.items = w.items[1:]
	w.floor = i.seq
	if i.id != "" {
		if w.ids[i.id].seq == i.seq {
			delete(w.ids, i.id)
		}
	} else if w.keys[i.key].seq == i.seq {
		delete(w.keys, i.key)
	}
}

// key returns the item of a key in a block after base.
func (w *window) key(k scopedKey, base uint64) (windowItem, bool) {
	i, ok := w.keys[k]
	return i, ok && i.seq > base
}

// id returns the item of a given id in a block after base.
func (w *window) id(id string, base uint64) (windowItem, bool) {
	i, ok := w.ids[id]
	return i, ok && i.seq > base
}
