package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"time"
)

// The sizes of a plot, in pixels. The bars are on its left, the curves on its
// right.
const (
	plotWidth   = 820
	barHeight   = 24
	barsLeft    = 100 // the width of the names
	barsRight   = 400
	curvesLeft  = 480
	curvesRight = 790
	plotTop     = 56
	curvesSize  = 190 // height
)

var plotColors = []string{"#7f7f7f", "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf"}

// plot draws a scenario as SVG: the CPU time per delivery as bars, with the
// deliveries per second, and the latency by percentile as curves.
func (sc *scenarioReport) plot() string {
	servers := slices.DeleteFunc(slices.Clone(sc.Servers), func(s *serverReport) bool { return len(s.Rounds) == 0 })
	height := plotTop + max(len(servers)*barHeight, curvesSize) + 44
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	plotText(&b, 10, 20, "start", sc.Title, `font-size="14" font-weight="bold"`)
	plotText(&b, 10, 42, "start", "server's CPU per delivery, in µs; deliveries per second", "")
	plotText(&b, curvesLeft, 42, "start", "latency by percentile", "")
	sc.plotBars(&b, servers)
	plotCurves(&b, servers)
	b.WriteString("</svg>\n")
	return b.String()
}

func plotText(b *strings.Builder, x, y float64, anchor, text, attributes string) {
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, attributes, html.EscapeString(text))
}

func plotColor(i int) string { return plotColors[i%len(plotColors)] }

func (sc *scenarioReport) plotBars(b *strings.Builder, servers []*serverReport) {
	var longest float64
	for _, s := range servers {
		longest = max(longest, middleOf(s, (*clientsResult).perDelivery))
	}
	for i, s := range servers {
		cpu, rate := middleOf(s, (*clientsResult).perDelivery), middleOf(s, (*clientsResult).perSecond)
		y := float64(plotTop + i*barHeight)
		length := cpu / max(longest, 1e-9) * (barsRight - barsLeft - 110)
		plotText(b, barsLeft-6, y+16, "end", s.Name, "")
		fmt.Fprintf(b, `<rect x="%d" y="%.0f" width="%.1f" height="%d" fill="%s"/>`+"\n", barsLeft, y+3, length, barHeight-6, plotColor(i))
		plotText(b, barsLeft+length+5, y+16, "start", fmt.Sprintf("%.2f; %s/s", cpu, thousands(rate)), "")
	}
}

// plotQuantiles are the percentiles of the curves, at equal distances.
var plotQuantiles = []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999}

func plotCurves(b *strings.Builder, servers []*serverReport) {
	at := func(s *serverReport, q float64) time.Duration {
		return max(10*time.Microsecond, middleOf(s, func(r *clientsResult) time.Duration { return r.at(q) }))
	}
	low, high := time.Hour, time.Duration(0)
	for _, s := range servers {
		low = min(low, at(s, plotQuantiles[0]))
		high = max(high, at(s, plotQuantiles[len(plotQuantiles)-1]))
	}
	if high == 0 {
		return
	}
	bottom, top := math.Floor(math.Log10(float64(low))), math.Ceil(math.Log10(float64(high)))
	top = max(top, bottom+1)
	x := func(i int) float64 {
		return curvesLeft + float64(i)*(curvesRight-curvesLeft)/float64(len(plotQuantiles)-1)
	}
	y := func(d float64) float64 {
		return plotTop + curvesSize*(top-math.Log10(d))/(top-bottom)
	}
	for decade := bottom; decade <= top; decade++ {
		d := math.Pow(10, decade)
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", curvesLeft, curvesRight, y(d), y(d))
		plotText(b, curvesLeft-6, y(d)+4, "end", time.Duration(math.Round(d)).String(), "")
	}
	for i, q := range plotQuantiles {
		plotText(b, x(i), plotTop+curvesSize+18, "middle", fmt.Sprintf("%g", 100*q), "")
	}
	for i, s := range servers {
		var points []string
		for j, q := range plotQuantiles {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(j), y(float64(at(s, q)))))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), plotColor(i))
	}
}
