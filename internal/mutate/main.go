// Command mutate breaks the code of packages, one condition at a time, and lists
// the breakages that the packages' own tests don't notice. Run it in the root of
// the module:
//
//	go run ./internal/mutate ./hub ./stream
//	go run ./internal/mutate -n 50 -seed 7 -exec 'nice -n 10'
//
// It negates conditions, ignores guards (an if that returns or continues, a case
// of a switch), exchanges && for || and < for <=, and removes calls and defers.
// It edits no file. It builds the tests of a package once, by -overlay, with all
// the mutants in them, and turns on one for each run. What the short tests
// (-short) don't notice is tried with all tests of the package.
//
// accepted.txt lists the survivors that are known, with a reason each.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

var defaultPackages = []string{
	"./access", "./hub", "./store", "./stream",
	"./upstream/forward", "./upstream/poll", "./upstream/publish", "./upstream/webhook",
}

func main() {
	var o options
	prefix := flag.String("exec", "", "a `command` that runs each build and test, such as \"nice -n 10\"")
	flag.IntVar(&o.sample, "n", 0, "test a random sample of at most `N` mutants of each package; 0 means all")
	flag.Uint64Var(&o.seed, "seed", 1, "the `seed` of the sample")
	flag.StringVar(&o.run, "run", "", "test only mutants whose names contain a `text`")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "the limit of one run of a package's tests")
	list := flag.Bool("list", false, "list the mutants and test none")
	flag.Parse()
	o.prefix = strings.Fields(*prefix)
	packages := flag.Args()
	if len(packages) == 0 {
		packages = defaultPackages
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := mutate(ctx, o, packages, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func mutate(ctx context.Context, o options, packages []string, list bool) error {
	accepted, err := readAccepted("internal/mutate/accepted.txt")
	if err != nil {
		return err
	}
	for _, name := range packages {
		p, err := loadPackage(ctx, name, accepted)
		if err != nil {
			return err
		}
		selected := p.choose(o)
		if list {
			for _, m := range selected {
				fmt.Printf("%s:%d: %s\n", m.file, m.line, m.name)
			}
			continue
		}
		if _, err := p.test(ctx, o, selected); err != nil {
			return err
		}
	}
	return nil
}
