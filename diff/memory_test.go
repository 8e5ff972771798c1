package diff

import (
	"fmt"
	"strings"
	"testing"
)

// largeDocuments are documents of about a size that differ in one value in the
// middle, and in all values.
func largeDocuments(size int) map[string][3]string {
	flat := func(open, item, end string, change func(i, n int) int) string {
		var text strings.Builder
		text.WriteString(open)
		n := size / len(fmt.Sprintf(item, 100_000, 10))
		for i := range n {
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, strings.ReplaceAll(item, "#", fmt.Sprint(i)), change(i, n))
		}
		return text.String() + end
	}
	same := func(int, int) int { return 10 }
	one := func(i, n int) int {
		if i == n/2 {
			return 11
		}
		return 10
	}
	all := func(int, int) int { return 12 }
	docs := make(map[string][3]string)
	for name, shape := range map[string][3]string{
		"numbers": {"[", "%d", "]"},
		"members": {"{", `"#":%d`, "}"},
		"empty":   {"[", `[%d]`, "]"},
		"orders":  {"[", `{"id":#,"status":"shipped","customer":{"name":"Müller","city":"Köln"},"price":%d.90,"tags":["new","sale"],"note":null}`, "]"},
	} {
		docs[name] = [3]string{flat(shape[0], shape[1], shape[2], same), flat(shape[0], shape[1], shape[2], one), flat(shape[0], shape[1], shape[2], all)}
	}
	return docs
}

// A change of one value is a patch, however large the container around it is.
// The description of a change allocates a few times the document at most.
func TestComparisonTakesLittleMemory(t *testing.T) {
	const size = 2 << 20
	for name, texts := range largeDocuments(size) {
		from, one, all := parse(t, texts[0]), parse(t, texts[1]), parse(t, texts[2])
		for _, m := range [][2]string{{"patch", ""}, {"merge", ""}, {"items", "id"}} {
			mode := mode(t, m[0], m[1])
			for i, to := range []*Document{one, all} {
				cost := allocated(func() {
					events, err := mode.Events(t.Context(), from, to)
					if err != nil {
						t.Fatal(err)
					}
					if mode.name == "patch" && i == 0 && (len(events) != 1 || events[0].Name != "patch") {
						t.Errorf("%s: one change makes no patch", name)
					}
				})
				if cost > 6*size+(4<<20) { // 4, but for the race detector
					t.Errorf("%s, %s, document %d: %d bytes are allocated", name, mode, i, cost)
				}
			}
		}
		cost := allocated(func() { parse(t, texts[0]) })
		if cost > 5*size { // one is the copy that this test makes
			t.Errorf("%s: Parse allocates %d bytes", name, cost)
		}
	}
}
