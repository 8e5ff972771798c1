package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
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
	survived outcome = "survived"
)

// switchSource is one more file of the package: mutantIs tells which mutant is
// on. The tests' child processes inherit it.
const switchSource = `package %s

import (
	"os"
	"strconv"
)

var mutantOn, _ = strconv.Atoi(os.Getenv("MUTANT"))

func mutantIs(n int) bool { return n == mutantOn }
`

// test runs the package's tests with each mutant, prints the survivors and
// returns the number of each outcome. It fails if the tests fail without any.
func (p *loaded) test(ctx context.Context, o options, selected []mutant) (map[outcome]int, error) {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := p.build(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	if result, output := p.run(ctx, o, binary, 0, "-test.short"); result != survived {
		return nil, fmt.Errorf("the tests of %s fail without a mutant:\n%s", p.name, output)
	}
	counts, began := make(map[outcome]int), time.Now()
	for _, m := range selected {
		result, _ := p.run(ctx, o, binary, m.number, "-test.short")
		if result == survived {
			result, _ = p.run(ctx, o, binary, m.number)
		}
		if ctx.Err() != nil { // the run of this mutant was cut off
			break
		}
		if counts[result]++; result == survived {
			fmt.Printf("%s:%d: survived: %s\n", m.file, m.line, m.name)
		}
	}
	fmt.Printf("%s: %d mutants, %d accepted, %d of the others tested in %v: %d killed, %d timed out, %d survived\n",
		p.name, len(p.mutants)+p.known, p.known, counts[killed]+counts[timedOut]+counts[survived],
		time.Since(began).Round(time.Second), counts[killed], counts[timedOut], counts[survived])
	return counts, ctx.Err()
}

// build compiles the package's tests with all its mutants and returns the path of
// the binary. The go command reads the files from a directory of their own.
func (p *loaded) build(ctx context.Context, o options, dir string) (string, error) {
	replace := make(map[string]string)
	add := func(filename string, src []byte) error {
		original, err := filepath.Abs(filename)
		if err != nil {
			return err
		}
		replace[original] = filepath.Join(dir, filepath.Base(original))
		return os.WriteFile(replace[original], src, 0o600)
	}
	for filename, src := range p.sources {
		if err := add(filename, src); err != nil {
			return "", err
		}
	}
	if err := add(path.Join(p.name, "mutant_switch.go"), fmt.Appendf(nil, switchSource, p.clause)); err != nil {
		return "", err
	}
	content, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "package.test")
	if err := os.WriteFile(overlay, content, 0o600); err != nil {
		return "", err
	}
	if output, err := o.command(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, p.name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the tests of %s with their mutants: %w\n%s", p.name, err, output)
	}
	return binary, nil
}

// run runs the package's tests with one mutant, or with none if its number is 0.
func (p *loaded) run(ctx context.Context, o options, binary string, number int, flags ...string) (outcome, string) {
	cmd := o.command(ctx, binary, append(flags, "-test.failfast", "-test.timeout="+o.timeout.String())...)
	cmd.Dir, cmd.Env = p.name, append(os.Environ(), "MUTANT="+strconv.Itoa(number))
	output, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return survived, ""
	case bytes.Contains(output, []byte("panic: test timed out")):
		return timedOut, string(output)
	default:
		return killed, string(output)
	}
}

// command is a command with the prefix of the option exec.
func (o options) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	words := append(append(append([]string{}, o.prefix...), name), args...)
	return exec.CommandContext(ctx, words[0], words[1:]...)
}
