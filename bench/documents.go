package main

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// documents is a backend with many small documents, each of which changes once a
// minute. It records the requests for each.
type documents struct {
	responseTime time.Duration

	mu          sync.Mutex
	arrivals    [][]time.Time // of each document
	inFlight    int
	maxInFlight int
}

func (b *documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/views/"))
	if err != nil || i < 0 || i >= len(b.arrivals) {
		http.NotFound(w, r)
		return
	}
	b.arrived(i, now)
	defer b.responded()
	time.Sleep(b.responseTime)
	version := (now.Unix() + int64(i)) / 60
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":%d,"version":%d,"state":"open","total":"%d.00","note":%q}`, i, version, i%977, wares[i%len(wares)])
}

func (b *documents) arrived(i int, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrivals[i] = append(b.arrivals[i], at)
	b.inFlight++
	b.maxInFlight = max(b.maxInFlight, b.inFlight)
}

func (b *documents) responded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
}

// between counts the arrivals from one time to another in spans of a width. It also
// returns the sorted gaps between arrivals that began early enough to have ended.
// A gap that has not ended counts up to the end.
func (b *documents) between(from, to time.Time, longest, width time.Duration) (counts []int, gaps []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts = make([]int, to.Sub(from)/width)
	for _, times := range b.arrivals {
		for k, at := range times {
			if i := int(at.Sub(from) / width); !at.Before(from) && i < len(counts) {
				counts[i]++
			}
			if at.Before(from) || at.After(to.Add(-longest)) {
				continue
			}
			end := to
			if k+1 < len(times) {
				end = times[k+1]
			}
			gaps = append(gaps, end.Sub(at))
		}
	}
	slices.Sort(gaps)
	return counts, gaps
}

// sums adds up n neighbours each.
func sums(counts []int, n int) []int {
	var out []int
	for part := range slices.Chunk(counts, n) {
		sum := 0
		for _, c := range part {
			sum += c
		}
		if len(part) == n {
			out = append(out, sum)
		}
	}
	return out
}
