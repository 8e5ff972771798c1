package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

type options struct {
	prefix  []string
	sample  int
	seed    uint64
	run     string
	timeout time.Duration
}

// outcome is the result of a package's tests with one mutant.
type outcome string

const (
	killed   outcome = "killed" // a test fails
	timedOut outcome = "timed out"
	invalid  outcome = "does not compile"
	survived outcome = "survived"
)

// test runs the package's tests with each mutant, prints the survivors and
// returns the number of each outcome. It fails if the tests fail without any.
func (p *loaded) test(ctx context.Context, o options, selected []fileMutant) (map[outcome]int, error) {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if result, output := goTest(ctx, o, p.name, "-short"); result != survived {
		return nil, fmt.Errorf("the tests of %s fail without a mutant:\n%s", p.name, output)
	}
	counts, began := make(map[outcome]int), time.Now()
	for _, m := range selected {
		result, err := p.testMutant(ctx, o, dir, m)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil { // the run of this mutant was cut off
			break
		}
		if counts[result]++; result == survived {
			fmt.Printf("%s:%d: survived: %s\n", m.file.path, m.line, m.name)
		}
	}
	fmt.Printf("%s: %d mutants, %d accepted, %d of the others tested in %v: %d killed, %d timed out, %d don't compile, %d survived\n",
		p.name, len(p.mutants)+p.known, p.known, counts[killed]+counts[timedOut]+counts[invalid]+counts[survived],
		time.Since(began).Round(time.Second), counts[killed], counts[timedOut], counts[invalid], counts[survived])
	return counts, ctx.Err()
}

// testMutant runs the short tests, and all tests if those notice nothing.
func (p *loaded) testMutant(ctx context.Context, o options, dir string, m fileMutant) (outcome, error) {
	overlay, err := writeOverlay(dir, m)
	if err != nil {
		return "", err
	}
	result, _ := goTest(ctx, o, p.name, "-overlay", overlay, "-short")
	if result == survived {
		result, _ = goTest(ctx, o, p.name, "-overlay", overlay)
	}
	return result, nil
}

// writeOverlay writes a mutant's source and the file that has the go command
// read it in place of the original.
func writeOverlay(dir string, m fileMutant) (string, error) {
	original, err := filepath.Abs(m.file.path)
	if err != nil {
		return "", err
	}
	broken := filepath.Join(dir, filepath.Base(original))
	if err := os.WriteFile(broken, m.apply(m.file.src), 0o600); err != nil {
		return "", err
	}
	content, err := json.Marshal(map[string]map[string]string{"Replace": {original: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, content, 0o600)
}

func goTest(ctx context.Context, o options, name string, flags ...string) (outcome, string) {
	command := append(append([]string{}, o.prefix...), "go", "test", "-vet=off", "-count=1", "-failfast", "-timeout", o.timeout.String())
	command = append(append(command, flags...), name)
	output, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	switch {
	case err == nil:
		return survived, ""
	case bytes.Contains(output, []byte("[build failed]")), bytes.Contains(output, []byte("[setup failed]")):
		return invalid, string(output)
	case bytes.Contains(output, []byte("panic: test timed out")):
		return timedOut, string(output)
	default:
		return killed, string(output)
	}
}
