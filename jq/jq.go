// Package jq runs jq programs over JSON documents that others have written.
//
// Numbers that a program only passes on come out digit for digit as they went
// in, be it a 64-bit id or a price with thirty decimals. Arithmetic is exact on
// integers; arithmetic and comparison of other numbers is that of float64.
//
// A run is bounded in time and output, and a program sees its document and
// nothing else: no environment, no files, no modules, no further input.
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
	// ErrFailed is wrapped by the error of a run that the program ended: it
	// met a value that it can't use, raised an error or hit a bound.
	ErrFailed = errors.New("jq program failed")
	// ErrLimit is wrapped, together with [ErrFailed], by the error of a run
	// that took too long or gave too much.
	ErrLimit = errors.New("bound reached")
)

const (
	// MaxTime is how long a run may take: 1 second.
	MaxTime = time.Second
	// MaxOutputs is how many values a run may give: 10,000.
	MaxOutputs = 10_000
	// MaxBytes is how long a run's outputs may be together: 16 MiB.
	MaxBytes = 16 << 20
	// maxDepth is how deep an output may be nested: as deep as encoding/json
	// reads, so that what is written can be read.
	maxDepth = 10_000
)

// Program is a compiled jq program. It is safe for concurrent use.
type Program struct {
	src    string
	code   *gojq.Code
	bounds bounds
}

type bounds struct {
	time    time.Duration
	outputs int
	bytes   int
}

// Compile compiles a program. Its error quotes the program and says what is
// wrong with it.
func Compile(src string) (*Program, error) {
	code, err := compile(src)
	if err != nil {
		return nil, fmt.Errorf("jq program `%s`: %w%s", src, err, hint(src))
	}
	return &Program{src, code, bounds{MaxTime, MaxOutputs, MaxBytes}}, nil
}

func compile(src string) (*gojq.Code, error) {
	query, err := gojq.Parse(src)
	if err != nil {
		var parseErr *gojq.ParseError
		if errors.As(err, &parseErr) {
			return nil, fmt.Errorf("%w at byte %d", err, parseErr.Offset)
		}
		return nil, err
	}
	return gojq.Compile(query)
}

// hint explains what befell a program whose author never wrote what it now
// says: the Caddyfile adapter expands shorthands in every token, and {path} is
// jq for {path: .path} as well as Caddy for {http.request.uri.path}.
func hint(src string) string {
	if !strings.Contains(src, "{http.") {
		return ""
	}
	return "; Caddy took a {…} in it for a placeholder: write `{path: .path}` instead of `{path}`"
}

// String is the program's source.
func (p *Program) String() string { return p.src }
