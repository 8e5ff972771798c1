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

// childWord is the argument that makes this program run Caddy. A Caddyfile follows.
const childWord = "caddy"

// memory is the memory of Caddy's process.
type memory struct {
	Heap, Stacks uint64
	Goroutines   int
}

// serveCaddy runs Caddy until its standard input ends, so that it never outlives
// the process that started it. It replies to each line with its memory.
func serveCaddy(caddyfile string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	replies := json.NewEncoder(os.Stdout)
	if err := replies.Encode(readMemory()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := execute(lines.Text()); err != nil {
			return err
		}
		if err := replies.Encode(readMemory()); err != nil {
			return err
		}
	}
	return caddy.Stop()
}

// execute executes a line: `profile <file>` starts a CPU profile, `profiled` ends
// it, `heap <file>` writes a heap profile, `memory` does nothing.
func execute(line string) error {
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
		return fmt.Errorf("unknown command %q", word)
	}
}

func readMemory() memory {
	runtime.GC()
	runtime.GC() // frees what finalizers and pools held during the first
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return memory{Heap: stats.HeapAlloc, Stacks: stats.StackInuse, Goroutines: runtime.NumGoroutine()}
}
