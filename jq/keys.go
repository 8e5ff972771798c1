package jq

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// keyOrder is the order in which a program's outputs have their keys: first those
// that the program gives to objects, as it names them first, then all others by
// name. gojq's objects have no order of their own.
type keyOrder map[string]int

// keyOrderOf returns the order of a program's keys.
func keyOrderOf(query *gojq.Query) keyOrder {
	order := make(keyOrder)
	order.walk(reflect.ValueOf(query))
	return order
}

// walk walks a syntax tree. The parts of each of its nodes that hold keys are in
// the program's order.
func (o keyOrder) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if pair, ok := v.Interface().(*gojq.ObjectKeyVal); ok {
			o.add(pair)
		}
		o.walk(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			o.walk(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			o.walk(v.Index(i))
		}
	}
}

// add adds the key of a pair such as {key: 1}, {"key": 1}, {$key} or {key}, unless
// the program computes it.
func (o keyOrder) add(pair *gojq.ObjectKeyVal) {
	var key string
	switch text := pair.KeyString; {
	case pair.Key != "":
		key = strings.TrimPrefix(pair.Key, "$")
	case text != nil && len(text.Queries) == 0:
		key = text.Str
	default:
		return
	}
	if _, known := o[key]; !known {
		o[key] = len(o)
	}
}

// sorted returns the keys of an object in order.
func (o keyOrder) sorted(object map[string]any) []string {
	if len(o) == 0 {
		return slices.Sorted(maps.Keys(object))
	}
	keys := slices.Collect(maps.Keys(object))
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(o.rank(a), o.rank(b)), strings.Compare(a, b))
	})
	return keys
}

// rank returns the place of a key; for one that the program doesn't name, the
// place after all others.
func (o keyOrder) rank(key string) int {
	if place, ok := o[key]; ok {
		return place
	}
	return len(o)
}
