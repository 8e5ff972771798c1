package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-sse/caddy-sse"
)

// childWord makes this program Caddy; a Caddyfile follows.
const childWord = "caddy"

// memory is what Caddy's process says of itself.
type memory struct {
	Heap, Stacks uint64
	Goroutines   int
}

// serveCaddy runs Caddy until its standard input ends, so that it never
// outlives the process that has started it. It answers each line with one.
func serveCaddy(caddyfile string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	answers := json.NewEncoder(os.Stdout)
	if err := answers.Encode(ownMemory()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := obey(lines.Text()); err != nil {
			return err
		}
		if err := answers.Encode(ownMemory()); err != nil {
			return err
		}
	}
	return caddy.Stop()
}

// obey does what a line says: `profile <file>`, `profiled`, `heap <file>`, or
// `memory`, which is what each line is answered with.
func obey(line string) error {
	word, path, _ := strings.Cut(line, " ")
	switch word {
	case "memory":
		return nil
	case "profile":
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		return pprof.StartCPUProfile(f)
	case "profiled":
		pprof.StopCPUProfile()
		return nil
	case "heap":
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		runtime.GC()
		return errors.Join(pprof.WriteHeapProfile(f), f.Close())
	default:
		return fmt.Errorf("unknown word %q", word)
	}
}

func ownMemory() memory {
	runtime.GC()
	runtime.GC() // what finalizers and pools have held until the first
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return memory{Heap: stats.HeapAlloc, Stacks: stats.StackInuse, Goroutines: runtime.NumGoroutine()}
}
