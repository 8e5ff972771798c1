package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// quantile returns a quantile of sorted values, or zero if there are none.
func quantile[T cmp.Ordered](sorted []T, part float64) T {
	var none T
	if len(sorted) == 0 {
		return none
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func median[T cmp.Ordered](values []T) T {
	return quantile(slices.Sorted(slices.Values(values)), 0.5)
}

// percent formats a part of a core.
func percent(d, of time.Duration) string {
	return fmt.Sprintf("%.1f %%", 100*float64(d)/float64(of))
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func kib(n float64) string { return fmt.Sprintf("%.1f KiB", n/1024) }

// progressf prints progress on standard error. Standard output has the results.
func progressf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// machine describes the machine for the results.
func machine() string {
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %d CPUs, load average at the start %s", runtime.Version(), runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:2], " "))
}
