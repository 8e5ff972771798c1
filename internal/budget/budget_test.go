package budget_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/caddy-sse/caddy-sse/internal/budget"
)

const mib = 1 << 20

// taker takes a part of a budget.
type taker struct {
	release func()
	err     error
	done    bool
}

func take(ctx context.Context, b *budget.Budget, bytes int64) *taker {
	t := new(taker)
	go func() {
		t.release, t.err = b.Take(ctx, bytes)
		t.done = true
	}()
	synctest.Wait()
	return t
}

func wantDone(t *testing.T, when string, want map[*taker]bool) {
	t.Helper()
	synctest.Wait()
	for taker, done := range want {
		if taker.done != done {
			t.Errorf("%s: a document has its memory: %v, want %v", when, taker.done, done)
		}
	}
}

func TestDocumentsWaitUntilTheirMemoryIsFree(t *testing.T) {
	for kind, bytes := range map[string]int64{"medium": 10 * mib, "large": 16 * mib} {
		synctest.Test(t, func(t *testing.T) {
			b := budget.New(128 * mib)
			var working []*taker
			for used := bytes; used <= 64*mib; used += bytes {
				working = append(working, take(t.Context(), b, bytes))
			}
			last := take(t.Context(), b, bytes)
			for _, w := range working {
				wantDone(t, kind, map[*taker]bool{w: true, last: false})
			}
			working[1].release()
			wantDone(t, kind+", one is done", map[*taker]bool{last: true})
		})
	}
}

func TestDocumentBeyondTheBudgetIsTheOnlyLargeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(128 * mib)
		first := take(t.Context(), b, 16*mib)
		huge := take(t.Context(), b, 1000*mib)
		next := take(t.Context(), b, 16*mib)
		wantDone(t, "beside another", map[*taker]bool{first: true, huge: false, next: false})
		first.release()
		wantDone(t, "alone", map[*taker]bool{huge: true, next: false})
		huge.release()
		wantDone(t, "after it", map[*taker]bool{next: true})
	})
}

func TestNoDocumentWaitsForLargerOnesThanItsKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(128 * mib)
		huge := take(t.Context(), b, 1000*mib)
		medium := take(t.Context(), b, 16*mib-1)
		var more []*taker
		for range 10 {
			more = append(more, take(t.Context(), b, 10*mib))
		}
		small := take(t.Context(), b, mib-1)
		wantDone(t, "at once", map[*taker]bool{huge: true, medium: true, more[0]: true, more[9]: false, small: true})
		small.release()
		medium.release()
		for _, m := range more {
			synctest.Wait()
			m.release()
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(128 * mib)
		take(t.Context(), b, 64*mib)
		cause := errors.New("it took too long")
		ctx, cancel := context.WithCancelCause(t.Context())
		waiting := take(ctx, b, 16*mib)
		cancel(cause)
		wantDone(t, "ended", map[*taker]bool{waiting: true})
		if !errors.Is(waiting.err, cause) {
			t.Errorf("got %v", waiting.err)
		}
	})
}
