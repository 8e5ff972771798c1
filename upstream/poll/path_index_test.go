package poll_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// under reports whether a path is other or below it.
func under(path, other string) bool {
	path, other = strings.TrimSuffix(path, "/")+"/", strings.TrimSuffix(other, "/")+"/"
	return strings.HasPrefix(path, other)
}

func TestInvalidationReachesPathsAboveAndBelow(t *testing.T) {
	path := rapid.Custom(func(t *rapid.T) string {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a-b", "a!", "", "aa"}), 0, 4).Draw(t, "names")
		return "/" + strings.Join(names, "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		paths := rapid.SliceOfN(path, 0, 20).Draw(t, "paths")
		written := path.Draw(t, "written")
		var want []string
		for _, p := range paths {
			if under(written, p) || under(p, written) && strings.TrimSuffix(written, "/") != "" {
				want = append(want, p)
			}
		}
		got := poll.Related(paths, written)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("a write to %q concerns %q, want %q", written, got, want)
		}
	})
}

func BenchmarkInvalidationAmongViews(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("views=%d", n), func(b *testing.B) {
			write := poll.InvalidateAmong(n)
			for b.Loop() {
				write()
			}
		})
	}
}
