package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func exampleReport(name string) *fanoutReport {
	r := newFanoutReport(nil)
	sc := r.begin(new(fanoutOptions), &scenario{name: name, title: "1 < 2 streams & more"})
	for _, s := range []*server{{name: "floor"}, {name: "caddy-sse"}} {
		for round := range 3 {
			sc.add(s, &clientsResult{
				Elapsed: 2 * time.Second, Deliveries: 1_000_000, ServerCPU: time.Duration(round+1) * time.Second,
				Latency: []latency{{0.01, time.Millisecond}, {0.5, 10 * time.Millisecond}, {0.999, time.Second}},
			}, nil)
		}
		sc.add(s, nil, errors.New("no round"))
	}
	return r
}

func TestFanoutReportComparesMediansOfRounds(t *testing.T) {
	sc := exampleReport("h1-rate").Scenarios[0]
	got := make(map[string]string)
	for _, c := range sc.columns() {
		got[c.title] = c.value(sc.Servers[1])
	}
	for title, want := range map[string]string{
		"deliveries/s": "500,000", "server's CPU per delivery": "2.00 µs", "× floor": "1.00",
		"latency p50, p99, p99.9": "10.0 ms, 0.0 ms, 1.00 s", "missing, doubled, reordered": "0, 0, 0",
	} {
		if got[title] != want {
			t.Errorf("%s is %q, want %q", title, got[title], want)
		}
	}
	if _, found := got["× nchan"]; found {
		t.Error("nchan was not measured")
	}
}

func TestFanoutPlotIsXML(t *testing.T) {
	for text := xml.NewDecoder(strings.NewReader(exampleReport("h1-rate").Scenarios[0].plot())); ; {
		_, err := text.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFanoutFileKeepsScenariosOfEarlierRuns(t *testing.T) {
	dir := t.TempDir()
	o := &fanoutOptions{json: filepath.Join(dir, "fanout.json"), svg: dir}
	for _, name := range []string{"h1-10000", "h1-rate", "h1-10000"} {
		if err := exampleReport(name).write(o); err != nil {
			t.Fatal(err)
		}
	}
	var r fanoutReport
	text, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Scenarios) != 2 || r.Scenarios[0].Name != "h1-rate" || len(r.Scenarios[0].Servers[0].Rounds) != 3 {
		t.Errorf("%s", text)
	}
	for _, name := range []string{"fanout-h1-rate.svg", "fanout-h1-10000.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestPublishRequestHasTheNumberOfItsMark(t *testing.T) {
	for _, body := range []string{fanoutData(256), formWithMark("topic=bench&data=", fanoutData(256))} {
		r := newPublishRequest("127.0.0.1:80", "/publish", body, "Authorization", "Bearer x")
		number, err := r.number()
		if err != nil {
			t.Fatal(err)
		}
		copy(number, "0000002a")
		if text := string(r.Request); !strings.Contains(text, "@0000002a") || !strings.Contains(text, fmt.Sprintf("Content-Length: %d\r\n", len(body))) {
			t.Errorf("%s", text)
		}
	}
	if _, err := (publishRequest{Request: []byte("POST / HTTP/1.1\r\n\r\n")}).number(); err == nil {
		t.Error("a request without a mark is not an error")
	}
}
