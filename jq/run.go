package jq

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// Run gives the program's outputs for a document, each as compact JSON with
// sorted keys, in which U+2028 and U+2029 are escaped and <, > and & are not.
// No output is not an error: the program chose to say nothing.
//
// A document that isn't JSON gives an error that wraps [ErrNotJSON], a program
// that fails one that wraps [ErrFailed], and a context that ends its cause. The
// bound on time is looked at between the program's steps: a single step, say
// the repetition of a string, is not interrupted, and what a program holds in
// memory until it is stopped is not bounded. Programs are the administrator's.
func (p *Program) Run(ctx context.Context, doc []byte) ([][]byte, error) {
	input, err := decode(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	timed, cancel := context.WithTimeoutCause(ctx, p.bounds.time, p.tooLong())
	defer cancel()
	iter := p.code.RunWithContext(timed, input)
	out := outputs{bounds: p.bounds}
	for {
		value, ok := iter.Next()
		if !ok {
			return out.values, nil
		}
		if err, ok := value.(error); ok {
			if isHalt(err) {
				return out.values, nil
			}
			return nil, p.failure(timed, err)
		}
		if err := out.add(value); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFailed, err)
		}
	}
}

// decode keeps numbers as they are written. It takes one document: what
// follows it, if it isn't white space, is an error.
func decode(doc []byte) (any, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("it is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var value any
	switch err := dec.Decode(&value); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("it breaks off")
	case err != nil:
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	return value, nil
}

// isHalt tells whether the program ended itself with `halt`, which is no
// failure; `halt_error` is.
func isHalt(err error) bool {
	var halt *gojq.HaltError
	return errors.As(err, &halt) && halt.Value() == nil && halt.ExitCode() == 0
}

// failure tells whose fault err is. gojq returns the bare error of a context
// that ended; its cause says whether it was the caller's or the bound on time.
func (p *Program) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %s", ErrFailed, withoutValues(err))
}

// withoutValues says what went wrong, for logs, which must not hold what the
// document holds: gojq quotes the values that an operation has failed on. What
// a program says itself, with error, is its author's word.
func withoutValues(err error) string {
	var own gojq.ValueError
	if errors.As(err, &own) {
		return err.Error()
	}
	return quoted.ReplaceAllString(err.Error(), "$1…")
}

// quoted are the values in an error, from the first one to the end of the last:
// in parentheses behind their types, or strings alone.
var quoted = regexp.MustCompile(`(?s)(\b(?:boolean|number|string|array|object) )\(.*\)|".*"`)

func (p *Program) tooLong() error {
	return fmt.Errorf("%w: %w: it ran for more than %v", ErrFailed, ErrLimit, p.bounds.time)
}

// outputs collects what a run gives, within its bounds.
type outputs struct {
	bounds bounds
	values [][]byte
	size   int
}

func (o *outputs) add(value any) error {
	if len(o.values) == o.bounds.outputs {
		return fmt.Errorf("%w: it gave more than %d values", ErrLimit, o.bounds.outputs)
	}
	enc := newEncoder(o.bounds.bytes - o.size)
	err := enc.encode(value)
	if o.size += enc.buf.Len(); o.size > o.bounds.bytes || errors.Is(err, errTooLarge) {
		return fmt.Errorf("%w: it gave more than %d bytes", ErrLimit, o.bounds.bytes)
	}
	if err != nil {
		return err
	}
	o.values = append(o.values, enc.buf.Bytes())
	return nil
}
