package diff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/caddy-sse/caddy-sse/event"
)

// client holds a copy of the backend's document and applies events to it as the
// standards say.
type client struct {
	doc   []byte
	items map[string]json.RawMessage // by key, in the mode items
	key   []string                   // path of the member that identifies an item
}

func (c *client) receive(events []event.Event) error {
	for _, e := range events {
		if _, err := e.Encode(); err != nil {
			return err
		}
		if !json.Valid(e.Data) || bytes.ContainsAny(e.Data, "\r\n\u2028\u2029") {
			return fmt.Errorf("event %q has the data %q", e.Name, e.Data)
		}
		if err := c.apply(e); err != nil {
			return fmt.Errorf("event %q with %.300s: %w", e.Name, e.Data, err)
		}
	}
	return nil
}

func (c *client) apply(e event.Event) (err error) {
	switch e.Name {
	case "", "whole":
		c.doc = e.Data
		c.items = itemsOf(e.Data, c.key)
	case "patch":
		c.doc, err = applyPatch(c.doc, e.Data)
	case "merge":
		c.doc = encode(applyMerge(decode(c.doc), decode(e.Data)))
	default:
		return c.applyItem(e)
	}
	return err
}

func (c *client) applyItem(e event.Event) error {
	var data struct{ Key, Item, Old json.RawMessage }
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	key := canonical(data.Key)
	was, known := c.items[key]
	if known != (e.Name != "added") || (known && canonical(was) != canonical(data.Old)) || known != (data.Old != nil) {
		return fmt.Errorf("the client has %q", was)
	}
	if (data.Item == nil) != (e.Name == "removed") {
		return errors.New("item and name don't fit")
	}
	if delete(c.items, key); e.Name != "removed" {
		c.items[key] = data.Item
	}
	return nil
}

// itemsOf returns a list's items by key.
func itemsOf(doc []byte, key []string) map[string]json.RawMessage {
	items := make(map[string]json.RawMessage)
	var list []json.RawMessage
	_ = json.Unmarshal(doc, &list)
	for _, item := range list {
		k := item
		for _, name := range key {
			var members map[string]json.RawMessage
			_ = json.Unmarshal(k, &members)
			k = members[name]
		}
		if k != nil {
			items[canonical(k)] = item
		}
	}
	return items
}

// applyPatch implements RFC 6902, but for the operations that [Mode] doesn't use.
func applyPatch(doc, patch []byte) ([]byte, error) {
	var ops []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(patch, &ops); err != nil {
		return nil, err
	}
	copied := decode(doc)
	for _, op := range ops {
		var err error
		tokens := strings.Split(op.Path, "/")[1:]
		if copied, err = applyAt(copied, tokens, op.Op, op.Value); err != nil {
			return nil, fmt.Errorf("%s %q: %w", op.Op, op.Path, err)
		}
	}
	return encode(copied), nil
}

func applyAt(at any, tokens []string, op string, value []byte) (any, error) {
	if len(tokens) == 0 {
		return decode(value), nil
	}
	token := strings.NewReplacer("~1", "/", "~0", "~").Replace(tokens[0])
	switch at := at.(type) {
	case map[string]any:
		child, ok := at[token]
		switch {
		case !ok && (op != "add" || len(tokens) > 1):
			return nil, errors.New("no such member")
		case op == "remove" && len(tokens) == 1:
			delete(at, token)
			return at, nil
		}
		child, err := applyAt(child, tokens[1:], op, value)
		at[token] = child
		return at, err
	case []any:
		return applyInArray(at, token, tokens[1:], op, value)
	default:
		return nil, errors.New("it is a scalar")
	}
}

func applyInArray(at []any, token string, rest []string, op string, value []byte) (any, error) {
	i, err := strconv.Atoi(token)
	adds := op == "add" && len(rest) == 0
	switch {
	case err != nil || i < 0 || i > len(at) || (i == len(at) && !adds):
		return nil, fmt.Errorf("no such index in %d", len(at))
	case adds:
		return slices.Insert(at, i, decode(value)), nil
	case op == "remove" && len(rest) == 0:
		return slices.Delete(at, i, i+1), nil
	}
	at[i], err = applyAt(at[i], rest, op, value)
	return at, err
}

// applyMerge is the pseudocode of RFC 7396 §2.
func applyMerge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = make(map[string]any)
	}
	for name, value := range members {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = applyMerge(object[name], value)
		}
	}
	return object
}

func decode(doc []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic(fmt.Sprintf("%q: %v", doc, err))
	}
	return v
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// canonical returns a text that is the same for equal values, by a second
// implementation on top of encoding/json.
func canonical(doc []byte) string { return string(appendCanonical(nil, decode(doc))) }

func appendCanonical(dst []byte, v any) []byte {
	switch v := v.(type) {
	case json.Number:
		return append(dst, canonicalNumber([]byte(v))...)
	case []any:
		dst = append(dst, '[')
		for _, item := range v {
			dst = append(appendCanonical(dst, item), ',')
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			dst = append(append(dst, encode(name)...), ':')
			dst = append(appendCanonical(dst, v[name]), ',')
		}
		return append(dst, '}')
	default:
		return append(dst, encode(v)...)
	}
}

// applyWithLibrary applies an event with another implementation of the standards.
func applyWithLibrary(doc []byte, e event.Event) ([]byte, error) {
	switch e.Name {
	case "patch":
		patch, err := jsonpatch.DecodePatch(e.Data)
		if err != nil {
			return nil, err
		}
		return patch.Apply(doc)
	case "merge":
		return jsonpatch.MergePatch(doc, e.Data)
	default:
		return e.Data, nil
	}
}

func parse(t testing.TB, doc string) *Document {
	t.Helper()
	d, err := Parse([]byte(doc))
	if err != nil {
		t.Fatalf("%.100q: %v", doc, err)
	}
	return d
}

func mode(t testing.TB, word, arg string) *Mode {
	t.Helper()
	m, err := NewMode(word, arg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// eventLines returns the events between two documents, one per line, as name and
// data.
func eventLines(t testing.TB, m *Mode, old, now string) string {
	t.Helper()
	events, err := m.Events(t.Context(), parse(t, old), parse(t, now))
	if err != nil {
		t.Fatalf("%s from %.100s to %.100s: %v", m, old, now, err)
	}
	var lines []string
	for _, e := range events {
		lines = append(lines, strings.TrimSpace(e.Name+" "+string(e.Data)))
	}
	return strings.Join(lines, "\n")
}
