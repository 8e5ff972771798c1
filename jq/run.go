package jq

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/itchyny/gojq"

	"github.com/caddy-sse/caddy-sse/internal/budget"
)

// Run returns the program's outputs for a document, each as compact JSON, in
// which U+2028 and U+2029 are escaped and <, > and & are not. The
// keys that the program gives to objects, as in {id, total: .sum}, come first, in
// the order in which the program first names them; others follow by name. A
// program without output is no error.
//
// A document that isn't JSON gives an error that wraps [ErrNotJSON], a program
// that fails one that wraps [ErrFailed], and a context that ends its cause. Run
// checks the time limit between the program's steps: it doesn't interrupt a
// single step, say the repetition of a string, nor limit the memory that a
// program uses for other values than the document's. Programs are the
// administrator's.
//
// The values of a document can take many times its size. Run knows how much before
// it takes it, and waits for its part of [budget.Process]. The caller must not
// change the document meanwhile.
func (p *Program) Run(ctx context.Context, doc []byte) ([][]byte, error) {
	if err := check(doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	size := measure(doc)
	release, err := budget.Process.Take(ctx, size.size)
	if err != nil {
		return nil, err
	}
	defer release()
	input := decode(doc, size)
	timed, cancel := context.WithTimeoutCause(ctx, p.limits.time, p.errTimeout())
	defer cancel()
	iter := p.code.RunWithContext(timed, input)
	out := outputs{keys: p.keys, limits: p.limits}
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

// isHalt reports whether the program ended with `halt`, which is no failure.
func isHalt(err error) bool {
	var halt *gojq.HaltError
	return errors.As(err, &halt) && halt.Value() == nil && halt.ExitCode() == 0
}

// failure returns the error of a run. For a context that has ended, gojq returns
// its bare error; the cause distinguishes the caller's context from the time limit.
func (p *Program) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %s", ErrFailed, redact(err))
}

// redact removes the document's values from an error, since errors are logged:
// gojq quotes the operands of an operation that has failed. It keeps the message
// of an error that the program raised itself.
func redact(err error) string {
	var raised gojq.ValueError
	if errors.As(err, &raised) {
		return err.Error()
	}
	return quotedValues.ReplaceAllString(err.Error(), "$1…")
}

// quotedValues matches the values in an error, from the first one to the end of
// the last: in parentheses after their types, or strings alone.
var quotedValues = regexp.MustCompile(`(?s)(\b(?:boolean|number|string|array|object) )\(.*\)|".*"`)

func (p *Program) errTimeout() error {
	return fmt.Errorf("%w: %w: it ran for more than %v", ErrFailed, ErrLimit, p.limits.time)
}

// outputs collects the outputs of a run, within its limits.
type outputs struct {
	keys   keyOrder
	limits limits
	values [][]byte
	size   int
}

func (o *outputs) add(value any) error {
	if len(o.values) == o.limits.outputs {
		return fmt.Errorf("%w: it gave more than %d values", ErrLimit, o.limits.outputs)
	}
	enc := newEncoder(o.keys, o.limits.bytes-o.size)
	err := enc.encode(value)
	if o.size += enc.buf.Len(); o.size > o.limits.bytes || errors.Is(err, errTooLarge) {
		return fmt.Errorf("%w: it gave more than %d bytes", ErrLimit, o.limits.bytes)
	}
	if err != nil {
		return err
	}
	o.values = append(o.values, enc.buf.Bytes())
	return nil
}
