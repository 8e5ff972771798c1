package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestResponseFindsNumbersHoweverItsBytesAreSplit(t *testing.T) {
	event := func(n int) string {
		return fmt.Sprintf("id: x-%d\ndata: %s\n\n", n, strings.Replace(fanoutData(256), "@00000000", fmt.Sprintf("@%08x", n), 1))
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	one, two, three := event(1), event(2), event(3)
	middle := len(one) + strings.IndexByte(two, markStart) + 4
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	both := one + two
	for name, whole := range map[string]string{
		"until the end":                   head + "\r\n" + both + three,
		"one event in a chunk":            head + "Transfer-Encoding: chunked\r\n\r\n" + chunk(one) + chunk(two) + chunk(three),
		"chunks that divide a mark":       head + "transfer-encoding: chunked\r\n\r\n" + chunk(both[:middle]) + chunk(both[middle:]+three),
		"a heartbeat between two numbers": head + "\r\n" + one + "retry: 3000\n" + two + three,
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step <= len(whole); step++ {
				var r response
				var got []uint32
				for rest := []byte(whole); len(rest) > 0; {
					n := min(step, len(rest))
					var err error
					if got, err = r.read(rest[:n], got); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if want := []uint32{1, 2, 3}; !slices.Equal(got, want) {
					t.Fatalf("in steps of %d bytes: %v, want %v", step, got, want)
				}
			}
		})
	}
}

func TestResponseThatIsNoStreamIsAnError(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 503 Service Unavailable\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		strings.Repeat("x", maxResponseHead+1),
	} {
		if _, err := new(response).read([]byte(text), nil); err == nil {
			t.Errorf("%.60q: no error", text)
		}
	}
}

func TestFanoutDataHasItsSizeAndOneMarkAtItsEnd(t *testing.T) {
	for _, size := range []int{64, 256, 4096} {
		data := fanoutData(size)
		if len(data) != size || strings.Count(data, "@") != 1 || !strings.HasSuffix(data, `"@00000000"}`) {
			t.Errorf("size %d: %d bytes, %.40s…", size, len(data), data)
		}
	}
}

func TestTallyTellsLateFromRepeatedNumbers(t *testing.T) {
	var count [3]int
	var got tally
	for _, step := range []struct {
		n    uint32
		want arrival
	}{
		{1, onTime}, {2, onTime}, {2, again}, {1, again}, // 1 and 2 came
		{5, onTime}, {4, late}, {4, again}, {5, again}, {2, again}, // 3 is missing
		{70, onTime}, {6, late}, {5, late}, // 5 is too old to be known
		{200, onTime}, {136, late}, {136, again},
	} {
		if a := got.add(step.n); a != step.want {
			t.Errorf("%d: %v, want %v", step.n, a, step.want)
		} else {
			count[a]++
		}
	}
}

func TestHistogramQuantilesAreWithinOnePercent(t *testing.T) {
	for _, scale := range []time.Duration{time.Microsecond, 37 * time.Microsecond, 11 * time.Millisecond} {
		var h histogram
		for i := range 1000 {
			h.add(time.Duration(i+1) * scale)
		}
		for _, part := range []float64{0.5, 0.99, 0.999, 1} {
			got, want := float64(h.quantile(part)), part*1000*float64(scale)
			if got < 0.985*want || got > 1.015*want {
				t.Errorf("scale %v, quantile %v: %v, want %v", scale, part, time.Duration(got), time.Duration(want))
			}
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("empty: %v", got)
	}
	var h histogram
	h.add(time.Hour * 1000) // does not panic
	h.add(-time.Second)
}
