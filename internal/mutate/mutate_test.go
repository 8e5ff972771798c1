package main

import (
	"fmt"
	"go/format"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const source = `package p

import "sync"

type list[T any] struct{ mu sync.Mutex }

func (l *list[T]) add(a, b int, ok bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer println("left")
	if a < b && // a comment
		ok {
		return 1
	}
	for range a {
		if ok {
			continue
		}
		println(
			a,
		)
	}
	switch {
	case a >= b:
		panic("x")
	case ok:
	}
	for ok = true; ok; print("again") {
		a++
	}
	if ok {
		return 2
	}
	return a
}
`

func TestEachConditionAndCallIsBrokenOnce(t *testing.T) {
	found, broken, err := find("p/p.go", []byte(source), 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := format.Source(broken); err != nil {
		t.Errorf("%v\n%s", err, broken)
	}
	var got []string
	for i, m := range found {
		if on := fmt.Sprintf("mutantIs(%d)", i+8); m.number != i+8 || !strings.Contains(string(broken), on) {
			t.Errorf("%s has the number %d, and the source has it: %v", m.name, m.number, strings.Contains(string(broken), on))
		}
		got = append(got, strings.TrimPrefix(m.name, "p/p.go list.add: "))
	}
	want := []string{
		`without defer println("left")`,
		"not a < b && // a comment ok", "never a < b && // a comment ok", "&& to || a < b && // a comment ok", "< to <= a < b",
		"not ok", "never ok",
		"without println( a, )",
		"not a >= b", "never a >= b", "not ok #2", "never ok #2", ">= to > a >= b",
		`without print("again")`,
		"not ok #3", "never ok #3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSampleDependsOnSeedOnly(t *testing.T) {
	all, _, err := find("p/p.go", []byte(source), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &loaded{mutants: all}
	sample := func(seed uint64) (names []string) {
		for _, m := range p.choose(options{sample: 5, seed: seed}) {
			names = append(names, m.name)
		}
		return names
	}
	if a, b := sample(1), sample(1); len(a) != 5 || !slices.Equal(a, b) {
		t.Errorf("%q, then %q", a, b)
	}
	if slices.Equal(sample(1), sample(2)) {
		t.Error("another seed chooses the same mutants")
	}
	if got := p.choose(options{run: "println"}); len(got) != 2 {
		t.Errorf("%d mutants are named println", len(got))
	}
}

func TestOnlyUnnoticedMutantsSurvive(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"m.go": `package m

import "strings"

func clamp(n int) int {
	if n > 10 {
		return 10
	}
	strings.Clone("")
	return n
}
`,
		"m_test.go": `package m

import "testing"

func TestClamp(t *testing.T) {
	if clamp(1) != 1 || !testing.Short() && clamp(11) != 10 {
		t.Fail()
	}
}
`,
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := loadPackage(t.Context(), ".", map[string]bool{"other/x.go f: not y": true})
	if err != nil {
		t.Fatal(err)
	}
	// "not" fails at once, "never" with all tests; "> to >=" and a missing call
	// change nothing.
	counts, err := p.test(t.Context(), options{timeout: time.Minute}, p.choose(options{}))
	if want := map[outcome]int{killed: 2, survived: 2}; err != nil || !maps.Equal(counts, want) {
		t.Errorf("%v, %v, want %v", counts, err, want)
	}
	known := map[string]bool{"m.go clamp: > to >= n > 10": true}
	if p, err = loadPackage(t.Context(), ".", known); err != nil || len(p.mutants) != 3 || p.known != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := loadPackage(t.Context(), ".", map[string]bool{"m.go gone: not x": true}); err == nil {
		t.Error("an accepted mutant that is not there passes")
	}
	p.sources["m.go"] = []byte("package m\n\nfunc clamp(n int) int { return 0 }\n")
	if _, err := p.test(t.Context(), options{timeout: time.Minute}, nil); err == nil {
		t.Error("tests that fail without a mutant are taken for a measure")
	}
}

func TestAcceptedMutantNeedsReason(t *testing.T) {
	for content, want := range map[string]bool{
		"# comment\na.go f: not x\n\tsince y\n\nb.go f: not x\n\tsince z\n": true,
		"a.go f: not x\nb.go f: not x\n\tsince z\n":                         false,
		"a.go f: not x\n": false,
	} {
		name := filepath.Join(t.TempDir(), "accepted.txt")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		accepted, err := readAccepted(name)
		if ok := err == nil; ok != want || ok && len(accepted) != 2 {
			t.Errorf("%q: %v, %v", content, accepted, err)
		}
	}
	if _, err := readAccepted("accepted.txt"); err != nil {
		t.Error(err)
	}
}
