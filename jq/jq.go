// Package jq runs jq programs on untrusted JSON documents.
//
// A number that a program passes on unchanged keeps every digit, be it a 64-bit
// id or a price with thirty decimals. Arithmetic on integers is exact;
// arithmetic and comparison of other numbers use float64.
//
// Each run has a time limit and output limits. A program sees only its document:
// no environment, files, modules or further input.
package jq

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/itchyny/gojq"
)

var (
	// ErrNotJSON is wrapped by the error of a run whose document is not one
	// JSON text in UTF-8 (RFC 8259).
	ErrNotJSON = errors.New("not JSON")
	// ErrFailed is wrapped by the error of a run whose program met a value
	// that it can't use, raised an error, or exceeded a limit.
	ErrFailed = errors.New("jq program failed")
	// ErrLimit is wrapped, together with [ErrFailed], by the error of a run
	// that exceeded a limit.
	ErrLimit = errors.New("limit exceeded")
)

const (
	// MaxTime limits the time of a run: 1 second.
	MaxTime = time.Second
	// MaxOutputs limits the number of a run's outputs: 10,000.
	MaxOutputs = 10_000
	// MaxBytes limits the total size of a run's outputs: 16 MiB.
	MaxBytes = 16 << 20
	// maxDepth limits the nesting of an output to what encoding/json reads.
	maxDepth = 10_000
)

// Program is a compiled jq program. It is safe for concurrent use.
type Program struct {
	src    string
	code   *gojq.Code
	keys   keyOrder
	limits limits
}

type limits struct {
	time    time.Duration
	outputs int
	bytes   int
}

// Compile compiles a program. Its error quotes the program and says what is
// wrong with it.
func Compile(src string) (*Program, error) {
	code, keys, err := compile(src)
	if err != nil {
		return nil, fmt.Errorf("jq program `%s`: %w%s", src, err, placeholderHint(src))
	}
	return &Program{src, code, keys, limits{MaxTime, MaxOutputs, MaxBytes}}, nil
}

// CompileOptional is [Compile], and returns nil if src is empty.
func CompileOptional(src string) (*Program, error) {
	if src == "" {
		return nil, nil
	}
	return Compile(src)
}

func compile(src string) (*gojq.Code, keyOrder, error) {
	query, err := gojq.Parse(src)
	if err != nil {
		var parseErr *gojq.ParseError
		if errors.As(err, &parseErr) {
			return nil, nil, fmt.Errorf("%w at byte %d", err, parseErr.Offset)
		}
		return nil, nil, err
	}
	code, err := gojq.Compile(query)
	return code, keyOrderOf(query), err
}

// placeholderHint explains an error in a program that the Caddyfile adapter has
// changed: it expands shorthands in every token, and {path}, which is jq for
// {path: .path}, is Caddy's shorthand for {http.request.uri.path}.
func placeholderHint(src string) string {
	if !strings.Contains(src, "{http.") {
		return ""
	}
	return "; Caddy took a {…} in it for a placeholder: write `{path: .path}` instead of `{path}`"
}

// String returns the program's source.
func (p *Program) String() string { return p.src }
