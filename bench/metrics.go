package main

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
)

var sample = regexp.MustCompile(`(?m)^(\S+) (\S+)$`)

// scrape reads metrics. The keys are their names with labels.
func scrape(url string) (map[string]float64, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for _, m := range sample.FindAllSubmatch(text, -1) {
		values[string(m[1])], _ = strconv.ParseFloat(string(m[2]), 64)
	}
	return values, nil
}
