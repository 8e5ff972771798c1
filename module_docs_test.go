package caddysse_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeBlock   = regexp.MustCompile("(?ms)^```.*?^```$")
	heading     = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeSpan    = regexp.MustCompile("`([^`\\s]+)`")
	identifier  = regexp.MustCompile(`^(?:[a-z]+\.)?[A-Za-z]*[A-Z][A-Za-z]*(?:\.[A-Za-z]+)*$`)
	runPattern  = regexp.MustCompile(`go test .*-(?:run|bench|fuzz) '?([A-Za-z^][\w^]*)`)
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

// docs returns the text of each page, without its code blocks.
func docs(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || len(path) > 1 && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		content, err := os.ReadFile(path)
		pages[path] = codeBlock.ReplaceAllString(string(content), "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// anchor returns the anchor that GitHub gives a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	pages := docs(t)
	anchors := make(map[string][]string)
	for page, text := range pages {
		for _, m := range heading.FindAllStringSubmatch(text, -1) {
			anchors[page] = append(anchors[page], anchor(m[1]))
		}
	}
	for page, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], ":") { // another site
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if fragment != "" && !slices.Contains(anchors[target], fragment) {
				t.Errorf("%s links to %s: the page has no such heading", page, m[1])
			}
		}
	}
}

func TestPagesForContributorsNameExistingCode(t *testing.T) {
	var code strings.Builder
	if err := walkSources(func(_, content string) { code.WriteString(content) }); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"CONTRIBUTING.md", "docs/internals/architecture.md"} {
		for _, m := range codeSpan.FindAllStringSubmatch(docs(t)[page], -1) {
			name := m[1]
			switch {
			case strings.Contains(name, "<"): // to be filled in
			case strings.HasSuffix(name, ".go"):
				if found, _ := filepath.Glob(name); found == nil {
					t.Errorf("%s names the file %s, which doesn't exist", page, name)
				}
			case identifier.MatchString(name):
				last := name[strings.LastIndex(name, ".")+1:]
				if !regexp.MustCompile(`\b` + last + `\b`).MatchString(code.String()) {
					t.Errorf("%s names %s, which doesn't exist", page, name)
				}
			}
		}
	}
}

func TestCommandsInPagesRunExistingTests(t *testing.T) {
	var code strings.Builder
	if err := walkSources(func(_, content string) { code.WriteString(content) }); err != nil {
		t.Fatal(err)
	}
	for page := range docs(t) {
		content, err := os.ReadFile(page) // with its code blocks
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range runPattern.FindAllStringSubmatch(string(content), -1) {
			name := strings.Trim(m[1], "^")
			if name != "" && !regexp.MustCompile(`(?m)^func \w*`+name).MatchString(code.String()) {
				t.Errorf("%s runs %s, which no test is called", page, name)
			}
		}
	}
}

func TestPagesHaveNoConflictMarkers(t *testing.T) {
	marker := regexp.MustCompile(`(?m)^(<{7}|={7}|>{7})( .*)?$`)
	for page, text := range docs(t) {
		if found := marker.FindString(text); found != "" {
			t.Errorf("%s has the line %q", page, found)
		}
	}
}
