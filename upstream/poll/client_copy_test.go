package poll_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/caddy-sse/caddy-sse/diff"
	"github.com/caddy-sse/caddy-sse/event"
)

// copyOf is a client's copy of a document. It applies events by the standards.
type copyOf struct {
	doc   []byte
	items map[string]json.RawMessage // by id, of a client of items
	stale bool
	reset bool // until the whole document comes
}

func (c *copyOf) apply(e event.Event) (err error) {
	if c.reset && !slices.Contains([]string{"", "reset", "stale", "change", "fresh"}, e.Name) {
		return errors.New("it makes no sense after a reset")
	}
	switch e.Name {
	case "":
		*c = copyOf{doc: e.Data, items: itemsOf(e.Data)}
	case "patch":
		c.items = nil
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(e.Data); err == nil {
			c.doc, err = patch.Apply(c.doc)
		}
	case "merge":
		c.items = nil
		c.doc, err = applyMerge(c.doc, e.Data)
	case "added", "changed", "removed":
		err = c.applyItem(e)
	case "change":
		return c.applyChange(e)
	case "stale":
		c.stale = true
		return nil
	case "fresh":
		c.stale = false
		return nil
	case "reset":
		c.reset = true
		return nil
	case "complete", "gone":
	default:
		err = fmt.Errorf("what is %q", e.Name)
	}
	if c.stale {
		err = errors.Join(err, errors.New("a stale document comes back as a whole"))
	}
	return err
}

// applyItem applies an event of mode items. It returns an error if the event
// doesn't fit the copy.
func (c *copyOf) applyItem(e event.Event) error {
	var data struct{ Key, Item, Old json.RawMessage }
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	was, known := c.items[string(data.Key)]
	if known != (e.Name != "added") || known && !sameJSON(was, data.Old) {
		return fmt.Errorf("the client has %q", was)
	}
	if delete(c.items, string(data.Key)); e.Name != "removed" {
		c.items[string(data.Key)] = data.Item
	}
	return nil
}

// changes is a program of `send jq` whose events name the document before.
const changes = `{event: "change", data: {old, new}}`

// applyChange returns an error if an event of that program doesn't follow the last
// one. A client without a document gets one that follows none.
func (c *copyOf) applyChange(e event.Event) error {
	var data struct{ Old, New json.RawMessage }
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	before := c.doc
	if before == nil || c.reset {
		before = []byte("null")
	} else if c.stale {
		return errors.New("stale comes without fresh")
	}
	if !sameJSON(before, data.Old) {
		return fmt.Errorf("the client has %s", before)
	}
	*c = copyOf{doc: data.New}
	return nil
}

// has reports whether the copy equals the document.
func (c *copyOf) has(doc []byte) bool {
	if c.items != nil {
		return maps.EqualFunc(c.items, itemsOf(doc), func(a, b json.RawMessage) bool { return sameJSON(a, b) })
	}
	return sameJSON(c.doc, doc)
}

// itemsOf returns a list of objects by id, or nil if doc is no such list.
func itemsOf(doc []byte) map[string]json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(doc, &list) != nil {
		return nil
	}
	items := make(map[string]json.RawMessage)
	for _, item := range list {
		var with struct{ ID json.RawMessage }
		if json.Unmarshal(item, &with) != nil || with.ID == nil {
			return nil
		}
		items[string(with.ID)] = item
	}
	return items
}

// sameJSON compares JSON exactly, except for the order of members and white
// space.
func sameJSON(a, b []byte) bool {
	first, errFirst := diff.Parse(a)
	second, errSecond := diff.Parse(b)
	if errFirst != nil || errSecond != nil {
		return bytes.Equal(a, b)
	}
	return first.Equal(second)
}

// applyMerge implements the pseudocode of RFC 7396 §2.
func applyMerge(target, patch []byte) ([]byte, error) {
	var members, object map[string]json.RawMessage
	if json.Unmarshal(patch, &members) != nil || members == nil {
		return patch, nil
	}
	if json.Unmarshal(target, &object) != nil || object == nil {
		object = make(map[string]json.RawMessage)
	}
	for name, value := range members {
		if string(value) == "null" {
			delete(object, name)
			continue
		}
		merged, err := applyMerge(object[name], value)
		if err != nil {
			return nil, err
		}
		object[name] = merged
	}
	return json.Marshal(object)
}
