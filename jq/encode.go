package jq

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"

	"github.com/itchyny/gojq"
)

// errTooLarge is returned for an output that exceeds its limit.
var errTooLarge = errors.New("output is too large")

// encoder encodes a value as JSON up to a limit. gojq's encoder has none: the
// value that `[., .]` makes in forty rounds shares its memory, a kilobyte, but is
// a terabyte of JSON.
type encoder struct {
	buf     bytes.Buffer
	strings *json.Encoder // writes to buf
	keys    keyOrder
	max     int
	depth   int
}

func newEncoder(keys keyOrder, maxBytes int) *encoder {
	e := &encoder{keys: keys, max: maxBytes}
	e.strings = json.NewEncoder(&e.buf)
	e.strings.SetEscapeHTML(false)
	return e
}

func (e *encoder) encode(value any) error {
	if e.buf.Len() > e.max {
		return errTooLarge
	}
	switch v := value.(type) {
	case nil:
		e.buf.WriteString("null")
	case bool:
		e.buf.WriteString(strconv.FormatBool(v))
	case int:
		e.buf.WriteString(strconv.Itoa(v))
	case *big.Int:
		e.buf.WriteString(v.String())
	case json.Number:
		e.buf.WriteString(v.String())
	case string:
		return e.encodeString(v)
	case []any:
		return e.encodeArray(v)
	case map[string]any:
		return e.encodeObject(v)
	default:
		return e.encodeFloat(v)
	}
	return nil
}

// encodeString uses encoding/json, which always escapes U+2028 and U+2029: they
// end a line for some readers of event streams, and in JavaScript before
// ECMAScript 2019.
func (e *encoder) encodeString(s string) error {
	if len(s) > e.max {
		return errTooLarge
	}
	if err := e.strings.Encode(s); err != nil {
		return err
	}
	e.buf.Truncate(e.buf.Len() - 1) // the newline that Encode adds
	return nil
}

// encodeFloat encodes NaN as null and the infinities as the largest finite
// numbers, as jq does.
func (e *encoder) encodeFloat(v any) error {
	text, err := gojq.Marshal(v)
	e.buf.Write(text)
	return err
}

func (e *encoder) encodeArray(values []any) error {
	if err := e.open('['); err != nil {
		return err
	}
	for i, value := range values {
		if i > 0 {
			e.buf.WriteByte(',')
		}
		if err := e.encode(value); err != nil {
			return err
		}
	}
	e.close(']')
	return nil
}

func (e *encoder) encodeObject(object map[string]any) error {
	if err := e.open('{'); err != nil {
		return err
	}
	for i, key := range e.keys.sorted(object) {
		if i > 0 {
			e.buf.WriteByte(',')
		}
		if err := e.encodeString(key); err != nil {
			return err
		}
		e.buf.WriteByte(':')
		if err := e.encode(object[key]); err != nil {
			return err
		}
	}
	e.close('}')
	return nil
}

func (e *encoder) open(bracket byte) error {
	if e.depth == maxDepth {
		return fmt.Errorf("%w: an output is nested deeper than %d", ErrLimit, maxDepth)
	}
	e.depth++
	e.buf.WriteByte(bracket)
	return nil
}

func (e *encoder) close(bracket byte) {
	e.depth--
	e.buf.WriteByte(bracket)
}
