package body_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/body"
)

const mib = 1 << 20

// read reads a body of so many MiB and returns the status of its refusal, or zero.
func read(t *testing.T, h *body.Hold, mibs int) int {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", mibs*mib)))
	content, refused := body.ReadWithin(h, httptest.NewRecorder(), r, 32*mib)
	if refused != nil {
		return refused.Status
	}
	if len(content) != mibs*mib {
		t.Errorf("%d bytes of %d MiB", len(content), mibs)
	}
	return 0
}

func TestLargeBodiesAreLimitedInSum(t *testing.T) {
	b := body.NewBudget(10 * mib)
	a1, a2, c, d := b.Hold("a", mib), b.Hold("a", mib), b.Hold("c", mib), b.Hold("d", mib)
	for _, step := range []struct {
		name   string
		hold   *body.Hold
		mib    int
		status int
	}{
		{"a half, but for the first MiB", a1, 6, 0},
		{"more of the same client", a2, 2, 503},
		{"a small body of the same client", b.Hold("a", mib), 1, 0},
		{"half of the rest for another", c, 3, 0},
		{"too much for a third", d, 4, 503},
	} {
		if got := read(t, step.hold, step.mib); got != step.status {
			t.Errorf("%s: %d, want %d", step.name, got, step.status)
		}
	}
	for _, h := range []*body.Hold{a1, a1, a2, c, d, nil} {
		h.Release()
	}
	if got := read(t, b.Hold("d", mib), 6); got != 0 {
		t.Errorf("something is still held: %d", got)
	}
}

func TestBudgetIsFourTimesTheLargestBody(t *testing.T) {
	b := body.NewBudget(mib)
	if got := read(t, b.Hold("a", 16*mib), 17); got != 0 {
		t.Errorf("a body that the rule allows is refused: %d", got)
	}
	if got := read(t, nil, 17); got != 0 {
		t.Errorf("without a budget: %d", got)
	}
}

func TestConcurrentBodiesReturnWhatTheyHold(t *testing.T) {
	b := body.NewBudget(64 * mib)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			h := b.Hold("a", mib)
			defer h.Release()
			if _, err := io.Copy(io.Discard, h.Reader(strings.NewReader(strings.Repeat("x", 3*mib)))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := read(t, b.Hold("a", mib), 32); got != 0 {
		t.Errorf("something is still held: %d", got)
	}
}
