package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is the CPU time and resident memory of a process, from /proc.
type usage struct {
	cpu time.Duration
	rss int64
}

// tick is the unit of times in /proc: USER_HZ is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// processUsage reads /proc/<pid>/stat; see proc_pid_stat(5).
func processUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state = 3 // the field that comes after the name
	if len(fields) <= 24-state {
		return usage{}, fmt.Errorf("/proc/%d/stat is too short: %q", pid, stat)
	}
	field := func(number int) int64 {
		n, _ := strconv.ParseInt(fields[number-state], 10, 64)
		return n
	}
	return usage{
		cpu: time.Duration(field(14)+field(15)) * tick,
		rss: field(24) * int64(os.Getpagesize()),
	}, nil
}

// usageOf adds up the usage of a program's processes. Memory that several processes
// share counts once: it is their proportional set size (PSS).
func usageOf(pids []int) (sum usage, err error) {
	for _, pid := range pids {
		u, err := processUsage(pid)
		if err != nil {
			return usage{}, err
		}
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return usage{}, err
		}
		sum.cpu += u.cpu
		sum.rss += sharedMemory(rollup)
	}
	return sum, nil
}

// sharedMemory returns the proportional set size in a smaps_rollup file, in bytes;
// see proc_pid_smaps(5).
func sharedMemory(rollup []byte) int64 {
	for line := range strings.Lines(string(rollup)) {
		if size, found := strings.CutPrefix(line, "Pss:"); found {
			n, _ := strconv.ParseInt(strings.Fields(size)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// descendants returns a process and all processes below it.
func descendants(pid int) []int {
	parents := make(map[int][]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil { // it has ended
			continue
		}
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		parents[parent] = append(parents[parent], child)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, parents[all[i]]...)
	}
	return all
}

// busy returns the busy time of all of the machine's CPUs; see proc_stat(5).
func busy() time.Duration {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	var total time.Duration
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err == nil && i != 4 && i != 5 && i < 9 { // without idle and iowait; user includes the fields after steal
			total += time.Duration(n) * tick
		}
	}
	return total
}

// meter measures the CPU time of a span.
type meter struct {
	started               time.Time
	caddy                 *caddyProcess // or nil
	ofCaddy, ofUs, ofAll  time.Duration
	elapsed, caddyCPU, us time.Duration
	others                time.Duration // of other processes
	rss                   int64         // Caddy's, at the end
}

func newMeter(c *caddyProcess) (*meter, error) {
	m := &meter{started: time.Now(), caddy: c, ofAll: busy()}
	var err error
	m.ofCaddy, m.ofUs, err = m.read()
	return m, err
}

func (m *meter) read() (caddyCPU, us time.Duration, err error) {
	own, err := processUsage(os.Getpid())
	if err != nil || m.caddy == nil {
		return 0, own.cpu, err
	}
	theirs, err := m.caddy.usage()
	m.rss = theirs.rss
	return theirs.cpu, own.cpu, err
}

func (m *meter) stop() error {
	caddyCPU, us, err := m.read()
	m.elapsed = time.Since(m.started)
	m.caddyCPU, m.us = caddyCPU-m.ofCaddy, us-m.ofUs
	m.others = max(0, busy()-m.ofAll-m.caddyCPU-m.us)
	return err
}

// needFiles fails if a process can't open n files. It raises the limit if it may.
func needFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= uint64(n) {
		return nil
	}
	raised := syscall.Rlimit{Cur: uint64(n), Max: max(limit.Max, uint64(n))}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) != nil {
		return fmt.Errorf("the run needs %d open files and the limit is %d: raise it with `ulimit -n %d`, as root, or measure fewer streams", n, limit.Cur, n)
	}
	return nil
}
