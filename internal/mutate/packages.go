package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// loaded is a package with all its mutants.
type loaded struct {
	name    string
	clause  string            // the name in its package clause
	sources map[string][]byte // by path: the files with their mutants
	mutants []mutant          // without the accepted ones
	known   int               // how many are accepted
}

// loadPackage reads the files that a package has on this platform. It fails if
// the list of accepted mutants names one of the package that is not there.
func loadPackage(ctx context.Context, name string, accepted map[string]bool) (*loaded, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-json=GoFiles,Name", name).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", name, err)
	}
	var list struct {
		GoFiles []string
		Name    string
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, err
	}
	p := &loaded{name: name, clause: list.Name, sources: make(map[string][]byte)}
	found := make(map[string]bool)
	for _, file := range list.GoFiles {
		if err := p.loadFile(path.Join(filepath.ToSlash(name), file), found, accepted); err != nil {
			return nil, err
		}
	}
	for mutant := range accepted {
		file, _, _ := strings.Cut(mutant, " ")
		if path.Dir(file) == path.Clean(filepath.ToSlash(name)) && !found[mutant] {
			return nil, fmt.Errorf("accepted.txt names a mutant that is not there any more: %s", mutant)
		}
	}
	return p, nil
}

func (p *loaded) loadFile(filename string, found, accepted map[string]bool) error {
	src, err := os.ReadFile(filename)
	if err != nil {
		return err
	}
	all, broken, err := find(filename, src, len(found))
	if err != nil {
		return err
	}
	p.sources[filename] = broken
	for _, m := range all {
		if found[m.name] = true; accepted[m.name] {
			p.known++
			continue
		}
		p.mutants = append(p.mutants, m)
	}
	return nil
}

// choose returns the mutants to test, in the order of the source.
func (p *loaded) choose(o options) []mutant {
	chosen := slices.DeleteFunc(slices.Clone(p.mutants), func(m mutant) bool { return !strings.Contains(m.name, o.run) })
	if o.sample <= 0 || len(chosen) <= o.sample {
		return chosen
	}
	random := rand.New(rand.NewPCG(o.seed, 0))
	random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	chosen = chosen[:o.sample]
	slices.SortFunc(chosen, func(a, b mutant) int { return cmp.Compare(a.number, b.number) })
	return chosen
}

// readAccepted reads the names of the mutants that may survive. The line after a
// name is indented and says why. Empty lines and lines that begin with # count
// for nothing.
func readAccepted(filename string) (map[string]bool, error) {
	f, err := os.Open(filename)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	accepted := make(map[string]bool)
	lines, name := bufio.NewScanner(f), "" // the name whose reason must follow
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "\t"):
			name = ""
		case name != "":
			return nil, noReason(name)
		case line != "" && line[0] != '#':
			accepted[line], name = true, line
		}
	}
	if name != "" {
		return nil, noReason(name)
	}
	return accepted, lines.Err()
}

func noReason(name string) error {
	return fmt.Errorf("accepted.txt: %q has no reason: write one on the next line, after a tab", name)
}
