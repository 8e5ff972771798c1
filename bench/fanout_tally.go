package main

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"time"
)

// Every event of fanout carries a mark: markStart and its number, in hexadecimal.
// Nothing else that the servers send contains markStart.
const (
	markStart = '@'
	markLen   = len("@00000000")
)

// fanoutData returns data of a size in bytes whose mark is its last value, so that
// a client that has the mark has the event. It is JSON, which all servers accept.
func fanoutData(size int) string {
	const format = `{"pad":%q,"n":"@00000000"}`
	pad := max(0, size-len(fmt.Sprintf(format, "")))
	return fmt.Sprintf(format, bytes.Repeat([]byte("x"), pad))
}

// marks finds the numbers in the bytes of a stream.
type marks struct {
	start [markLen]byte // of a mark whose rest has not come yet
	held  int
}

// find appends the numbers of the marks that end in data.
func (m *marks) find(data []byte, numbers []uint32) []uint32 {
	if m.held > 0 {
		n := copy(m.start[m.held:], data)
		if m.held += n; m.held < markLen {
			return numbers
		}
		data = data[n:]
		numbers = appendNumber(numbers, m.start[:])
		m.held = 0
	}
	for {
		at := bytes.IndexByte(data, markStart)
		if at < 0 {
			return numbers
		}
		if data = data[at:]; len(data) < markLen {
			m.held = copy(m.start[:], data)
			return numbers
		}
		numbers = appendNumber(numbers, data[:markLen])
		data = data[markLen:]
	}
}

func appendNumber(numbers []uint32, mark []byte) []uint32 {
	n, err := strconv.ParseUint(string(mark[1:]), 16, 32)
	if err != nil {
		return numbers
	}
	return append(numbers, uint32(n))
}

// tally tells which of a stream's events have come. Numbers start at 1.
type tally struct {
	last   uint32 // the highest number
	before uint64 // bit i is set if number last-1-i has come
}

// arrival is the result of adding a number to a tally.
type arrival int

const (
	onTime arrival = iota // the highest number so far
	late                  // a lower number, for the first time
	again                 // a number that came before
)

// add adds a number. It knows the last 64; a number before them is late.
func (t *tally) add(n uint32) arrival {
	if n > t.last {
		step := n - t.last
		t.before = t.before<<step | 1<<(step-1) // shifts by more than 63 are zero
		t.last = n
		return onTime
	}
	if n == t.last {
		return again
	}
	bit := t.last - 1 - n
	if bit > 63 {
		return late
	}
	if t.before&(1<<bit) != 0 {
		return again
	}
	t.before |= 1 << bit
	return late
}

// histogram counts durations, with an error of 1 % from 64 µs on and of a
// microsecond below.
type histogram [2048]uint64

// bucket returns the index of a duration: the microseconds below 128, then 64
// buckets for each power of two.
func bucket(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	shift := max(0, bits.Len64(us)-7)
	return min(shift*64+int(us>>shift), len(histogram{})-1)
}

// middle returns the duration in the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 128 {
		return time.Duration(bucket) * time.Microsecond
	}
	shift := bucket/64 - 1
	us := uint64(bucket-shift*64)<<shift + 1<<shift/2
	return time.Duration(us) * time.Microsecond
}

func (h *histogram) add(d time.Duration) { h[bucket(d)]++ }

func (h *histogram) merge(other *histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// quantile returns a quantile, or zero if the histogram is empty.
func (h *histogram) quantile(part float64) time.Duration {
	var total, seen uint64
	for _, n := range h {
		total += n
	}
	for i, n := range h {
		if seen += n; n > 0 && float64(seen) >= part*float64(total) {
			return middle(i)
		}
	}
	return 0
}
