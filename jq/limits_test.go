package jq

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// limited compiles a program with output limits that are small, and time enough to
// exceed them on a busy machine.
func limited(t *testing.T, src string) *Program {
	t.Helper()
	program, err := Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	program.limits = limits{time: time.Minute, outputs: 10, bytes: 1000}
	return program
}

func TestEndlessProgramIsStopped(t *testing.T) {
	for _, src := range []string{
		"def f: f; f",
		"def f: try f catch f; f",
		"first(range(1e18) | select(false))",
		"[range(1e18)]",
		"reduce range(1e18) as $i (0; . + 1)",
		"try (def f: f; f) catch 1",
		"last(repeat(1))",
		"until(false; .)",
	} {
		program := limited(t, src)
		program.limits.time = 20 * time.Millisecond
		_, err := program.Run(t.Context(), []byte("0"))
		if !errors.Is(err, ErrFailed) || !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "it ran for more than 20ms") {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestNumberOfOutputsIsLimited(t *testing.T) {
	if out, err := limited(t, "range(10)").Run(t.Context(), []byte("0")); len(out) != 10 || err != nil {
		t.Error(len(out), err)
	}
	for _, src := range []string{"range(11)", "repeat(1)"} {
		_, err := limited(t, src).Run(t.Context(), []byte("0"))
		if !errors.Is(err, ErrFailed) || !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "more than 10 values") {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestTotalSizeOfOutputsIsLimited(t *testing.T) {
	for _, src := range []string{`"x" * 998`, `("x" * 498) | ., .`, `[range(498) | 1] + [10]`} {
		out, err := limited(t, src).Run(t.Context(), []byte("0"))
		if n := len(bytes.Join(out, nil)); n != 1000 || err != nil {
			t.Errorf("%s: %d bytes, %v", src, n, err)
		}
	}
	for _, src := range []string{
		`"x" * 999`,
		`"x" * 1e6`,
		`("x" * 498) | ., ., 1`,
		`"\n" * 600`, // escaped it is twice as long
		`{"a": ("x" * 1000)}`,
		`{("x" * 1000): 1}`,
		`[range(1000)]`,
		`reduce range(60) as $i (1; [., .])`, // 2^60 numbers that share their memory
		`reduce range(60) as $i (1; {a: ., b: .})`,
	} {
		_, err := limited(t, src).Run(t.Context(), []byte("0"))
		if !errors.Is(err, ErrFailed) || !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "more than 1000 bytes") {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestDeeplyNestedOutputIsRefused(t *testing.T) {
	program, err := Compile("reduce range(20000) as $i (0; [.])")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := program.Run(t.Context(), []byte("0")); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "deeper than 10000") {
		t.Error(err)
	}
}
