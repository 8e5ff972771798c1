package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fanoutReport is the results of all scenarios.
type fanoutReport struct {
	Missing   map[string]string `json:"missing,omitempty"` // servers that were not measured, and why
	Scenarios []*scenarioReport `json:"scenarios"`
}

type scenarioReport struct {
	Name    string          `json:"name"`
	Title   string          `json:"title"`
	Machine string          `json:"machine"`
	Each    string          `json:"each"` // how long a round was
	Servers []*serverReport `json:"servers"`
}

type serverReport struct {
	Name   string           `json:"name"`
	Note   string           `json:"note"`
	Rounds []*clientsResult `json:"rounds"`
	Failed []string         `json:"failed,omitempty"` // the errors of rounds without a result
}

func newFanoutReport(missing []*server) *fanoutReport {
	r := &fanoutReport{Missing: make(map[string]string)}
	for _, s := range missing {
		r.Missing[s.name] = s.missing
	}
	return r
}

// find returns the item with a name, which it adds if there is none.
func find[T any](all *[]*T, name func(*T) string, fresh *T) *T {
	for _, item := range *all {
		if name(item) == name(fresh) {
			return item
		}
	}
	*all = append(*all, fresh)
	return fresh
}

// begin adds a scenario, which is about to be measured.
func (r *fanoutReport) begin(o *fanoutOptions, sc *scenario) *scenarioReport {
	in := &scenarioReport{
		Name: sc.name, Title: sc.title, Machine: machine(),
		Each: fmt.Sprintf("%v after %v, %d bytes of data per event, window %d", o.total, o.warmup, fanoutBytes, o.window),
	}
	r.Scenarios = append(r.Scenarios, in)
	return in
}

func (in *scenarioReport) add(s *server, result *clientsResult, err error) {
	of := find(&in.Servers, func(s *serverReport) string { return s.Name }, &serverReport{Name: s.name, Note: s.note})
	if err != nil {
		of.Failed = append(of.Failed, err.Error())
		return
	}
	of.Rounds = append(of.Rounds, result)
}

// write prints the tables and writes the files.
func (r *fanoutReport) write(o *fanoutOptions) error {
	if o.json != "" {
		if err := r.keep(o.json); err != nil {
			return err
		}
	}
	for _, sc := range r.Scenarios {
		sc.print()
	}
	for _, name := range slices.Sorted(maps.Keys(r.Missing)) {
		fmt.Printf("not measured: %s: %s\n", name, r.Missing[name])
	}
	if err := r.plot(o.svg); err != nil || o.json == "" {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for _, start := range []string{`{"name":`, `{"opening":`} { // of servers and rounds: a line for each
		text = bytes.ReplaceAll(text, []byte(start), []byte("\n"+start))
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644) //nolint:gosec // results are public
}

// plot writes a plot for each scenario into a folder. An empty folder is none.
func (r *fanoutReport) plot(folder string) error {
	if folder == "" {
		return nil
	}
	for _, sc := range r.Scenarios {
		if sc.idle() {
			continue
		}
		err := os.WriteFile(filepath.Join(folder, "fanout-"+sc.Name+".svg"), []byte(sc.plot()), 0o644) //nolint:gosec // results are public
		if err != nil {
			return err
		}
	}
	return nil
}

// keep adds the scenarios of an earlier run that this one has not measured.
func (r *fanoutReport) keep(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var before fanoutReport
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, sc := range before.Scenarios {
		find(&r.Scenarios, func(s *scenarioReport) string { return s.Name }, sc)
	}
	order := scenarioNames()
	slices.SortStableFunc(r.Scenarios, func(a, b *scenarioReport) int {
		return cmp.Compare(slices.Index(order, a.Name), slices.Index(order, b.Name))
	})
	return nil
}

// middleOf returns the median of a value over the rounds.
func middleOf[T cmp.Ordered](s *serverReport, value func(*clientsResult) T) T {
	var all []T
	for _, r := range s.Rounds {
		all = append(all, value(r))
	}
	return median(all)
}

// perDelivery returns the server's CPU time per delivery in microseconds.
func (r *clientsResult) perDelivery() float64 {
	return float64(r.ServerCPU.Microseconds()) / float64(max(1, r.Deliveries))
}

func (r *clientsResult) perSecond() float64 {
	return float64(r.Deliveries) / max(r.Elapsed.Seconds(), 1e-9)
}

// String returns a result in a line.
func (r *clientsResult) String() string {
	if r.Elapsed == 0 {
		return fmt.Sprintf("%s B/stream, opened in %s", thousands(r.BytesPerIdle), short(r.Opening))
	}
	return fmt.Sprintf("%s deliveries/s, %.2f µs, p50 %s, p99 %s, p99.9 %s, ack %s, %s B/stream, missing %d, doubled %d, reordered %d, ended %d %s; server %s, clients %s, others %s",
		thousands(r.perSecond()), r.perDelivery(), short(r.at(0.5)), short(r.at(0.99)), short(r.at(0.999)), short(r.Ack), thousands(r.BytesPerIdle),
		r.Missing, r.Doubled, r.Reordered, r.Ended, r.EndedBy, percent(r.ServerCPU, r.Elapsed), percent(r.ClientsCPU, r.Elapsed), percent(r.OtherCPU, r.Elapsed))
}

// column is a column of a table.
type column struct {
	title string
	value func(*serverReport) string
}

// columns returns the table's columns. CPU time is also given as a multiple of
// other servers', if they were measured.
func (sc *scenarioReport) columns() []column {
	bytes := column{"bytes per idle stream", func(s *serverReport) string {
		return thousands(middleOf(s, func(r *clientsResult) float64 { return r.BytesPerIdle }))
	}}
	if sc.idle() {
		return []column{bytes, {"opened in", func(s *serverReport) string {
			return short(middleOf(s, func(r *clientsResult) time.Duration { return r.Opening }))
		}}}
	}
	all := []column{
		{"deliveries/s", func(s *serverReport) string { return thousands(middleOf(s, (*clientsResult).perSecond)) }},
		{"server's CPU per delivery", func(s *serverReport) string {
			return fmt.Sprintf("%.2f µs", middleOf(s, (*clientsResult).perDelivery))
		}},
	}
	for _, other := range []string{"floor", "nchan", "naive"} {
		if i := slices.IndexFunc(sc.Servers, func(s *serverReport) bool { return s.Name == other && len(s.Rounds) > 0 }); i >= 0 {
			all = append(all, column{"× " + other, func(s *serverReport) string {
				return fmt.Sprintf("%.2f", middleOf(s, (*clientsResult).perDelivery)/middleOf(sc.Servers[i], (*clientsResult).perDelivery))
			}})
		}
	}
	return append(all,
		column{"latency p50, p99, p99.9", func(s *serverReport) string {
			return s.time(0.5) + ", " + s.time(0.99) + ", " + s.time(0.999)
		}},
		column{"publish acknowledged", func(s *serverReport) string {
			return short(middleOf(s, func(r *clientsResult) time.Duration { return r.Ack }))
		}}, bytes,
		column{"missing, doubled, reordered", func(s *serverReport) string { return s.faults() }},
		column{"CPU of clients, others", func(s *serverReport) string {
			return s.cores(func(r *clientsResult) time.Duration { return r.ClientsCPU }) + ", " +
				s.cores(func(r *clientsResult) time.Duration { return r.OtherCPU })
		}})
}

// time formats a quantile of the latency.
func (s *serverReport) time(quantile float64) string {
	return short(middleOf(s, func(r *clientsResult) time.Duration { return r.at(quantile) }))
}

// idle reports whether nothing was published.
func (sc *scenarioReport) idle() bool {
	return !slices.ContainsFunc(sc.Servers, func(s *serverReport) bool {
		return slices.ContainsFunc(s.Rounds, func(r *clientsResult) bool { return r.Elapsed > 0 })
	})
}

// faults returns the sums of all rounds.
func (s *serverReport) faults() string {
	var missing, doubled, reordered int64
	for _, r := range s.Rounds {
		missing, doubled, reordered = missing+r.Missing, doubled+r.Doubled, reordered+r.Reordered
	}
	return fmt.Sprintf("%d, %d, %d", missing, doubled, reordered)
}

// cores formats CPU time as a part of a core.
func (s *serverReport) cores(value func(*clientsResult) time.Duration) string {
	return fmt.Sprintf("%.0f %%", middleOf(s, func(r *clientsResult) float64 { return 100 * float64(value(r)) / float64(r.Elapsed) }))
}

func (sc *scenarioReport) print() {
	columns := sc.columns()
	head, line := "| |", "| --- |"
	for _, c := range columns {
		head, line = head+" "+c.title+" |", line+" --: |"
	}
	fmt.Printf("%s (%s; %s)\n\n%s\n%s\n", sc.Title, sc.Each, sc.Machine, head, line)
	for _, s := range sc.Servers {
		row := "| " + s.Name + " |"
		if len(s.Rounds) == 0 {
			row += " failed: " + strings.Join(s.Failed, "; ") + " |"
		} else {
			for _, c := range columns {
				row += " " + c.value(s) + " |"
			}
		}
		fmt.Println(row)
	}
	fmt.Println()
}

// thousands formats a number with commas.
func thousands(f float64) string {
	text := fmt.Sprintf("%.0f", f)
	start := 0
	if f < 0 {
		start = 1
	}
	for i := len(text) - 3; i > start; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
