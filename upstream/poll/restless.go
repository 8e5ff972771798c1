package poll

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/diff"
)

const (
	// restlessAfter is after how many changes in a row, one with each poll, the
	// log says that a document changes all the time.
	restlessAfter = 10
	// maxRestlessPaths limits the documents of a rule that the log names.
	maxRestlessPaths = 100
	// maxParts limits the parts of a document that the log names.
	maxParts = 3
)

// noteChange counts the changes in a row. After enough of them, the log says once
// for each path which parts of the document change: they may have no meaning for
// the viewers, such as a time or a form's token.
func (l *pollLoop) noteChange(ctx context.Context, came outcome, from, to *document) {
	if came != changed || from == nil {
		l.changes = 0
		return
	}
	if l.changes++; l.changes == restlessAfter && l.view.poller.isFirstRestless(l.view.target.path) {
		l.view.poller.log.Info("this document changes with every poll: if these parts have no meaning for viewers, leave them out by select or ignore_text",
			l.view.fields(zap.Strings("parts", changedParts(ctx, from, to)))...)
	}
}

// isFirstRestless reports, once for each path and for a limited number of paths,
// that the log may say which parts of a document change.
func (p *Poller) isFirstRestless(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.restless[path] || len(p.restless) >= maxRestlessPaths {
		return false
	}
	if p.restless == nil {
		p.restless = make(map[string]bool)
	}
	p.restless[path] = true
	return true
}

// changedParts names the parts in which two documents differ: members of JSON by
// their paths (RFC 6901), other text by its lines.
func changedParts(ctx context.Context, from, to *document) []string {
	if from.json == nil || to.json == nil {
		return []string{changedLines(from.text, to.text)}
	}
	var operations []struct{ Path string }
	events, err := patches.Events(ctx, from.json, to.json)
	if err != nil || len(events) != 1 || events[0].Name != "patch" || json.Unmarshal(events[0].Data, &operations) != nil {
		return []string{"nearly all of it"}
	}
	var parts []string
	for _, o := range operations {
		if !slices.Contains(parts, o.Path) {
			parts = append(parts, o.Path)
		}
	}
	if more := len(parts) - maxParts; more > 0 {
		return append(parts[:maxParts:maxParts], fmt.Sprintf("and %d more", more))
	}
	return parts
}

var patches = func() *diff.Mode {
	mode, err := diff.NewMode("patch", "")
	if err != nil {
		panic(err)
	}
	return mode
}()

// changedLines names the lines of the newer text from the first to the last that
// differs.
func changedLines(from, to []byte) string {
	a, b := strings.SplitAfter(string(from), "\n"), strings.SplitAfter(string(to), "\n")
	first := 0
	for first < min(len(a), len(b)) && a[first] == b[first] {
		first++
	}
	same := 0
	for same < min(len(a), len(b))-first && a[len(a)-1-same] == b[len(b)-1-same] {
		same++
	}
	if last := len(b) - same; last > first+1 {
		return fmt.Sprintf("lines %d to %d", first+1, last)
	}
	return fmt.Sprintf("line %d", first+1)
}
