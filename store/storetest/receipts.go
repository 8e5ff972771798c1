package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/store"
)

var day = store.Window{MaxCount: 1000, MaxAge: 24 * time.Hour}

// receipt is of so long after the start.
func receipt(space, key string, at time.Duration, window store.Window) store.IdempotencyRecord {
	return store.IdempotencyRecord{Scope: space, Key: keyOf(key), Time: start.Add(at), Answer: fmt.Sprint(key, " at ", at), Window: window}
}

func keyOf(name string) (key store.HashedKey) {
	copy(key[:], name)
	return key
}

// wantReceipt looks for the receipt as it went in.
func (l *log) wantReceipt(r store.IdempotencyRecord) {
	l.Helper()
	at, answer, ok := l.IdempotencyRecord(r.Scope, r.Key)
	if !ok || !at.Equal(r.Time) || answer != r.Answer {
		l.Errorf("%s of %s is of %v and says %q (%v), want %+v", r.Key, r.Scope, at, answer, ok, r)
	}
}

func (l *log) wantNoReceipt(space, key string) {
	l.Helper()
	if at, answer, ok := l.IdempotencyRecord(space, keyOf(key)); ok || answer != "" || !at.IsZero() {
		l.Errorf("%s of %s is of %v and says %q (%v), want none", key, space, at, answer, ok)
	}
}

func receiptsFound(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.wantNoReceipt("a", "1")
	first := receipt("a", "1", 1, day)
	binary := receipt("b", "1", 2, day)
	binary.Answer = "\x00\xff" + strings.Repeat("x", 300)
	empty := receipt("", "\xff\x00\xfe", 3, day)
	empty.Answer = ""
	l.commit([]*store.Entry{l.entry("x", "t")}, first, binary)
	l.commit([]*store.Entry{l.entry("x", "t")}, empty)
	l.wantReceipt(first)
	l.wantReceipt(binary)
	l.wantReceipt(empty)
	l.wantNoReceipt("a", "2")
	l.wantNoReceipt("c", "1")
	l.wantNoReceipt("", "1")
}

func receiptsAlone(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	alone := receipt("a", "alone", 0, day)
	l.commit(nil, alone)
	l.wantRange(1, 0)
	with := receipt("a", "with", 1, day)
	l.commit([]*store.Entry{l.entry("x", "t")}, with)
	l.trim(store.History{MaxAge: 1}, time.Hour)
	l.wantRange(2, 1)
	l.add("t")
	l.wantReceipt(alone)
	l.wantReceipt(with)
}

func receiptsReplaced(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	two := store.Window{MaxCount: 2, MaxAge: time.Hour}
	other, again := receipt("a", "2", 2, two), receipt("a", "1", 3, two)
	l.commit(nil, receipt("a", "1", 1, two), other)
	l.commit(nil, again)
	l.wantReceipt(again)
	l.wantReceipt(other)
	l.commit(nil, receipt("a", "3", 4, two)) // the oldest is now 2
	l.wantNoReceipt("a", "2")
	l.wantReceipt(again)
	l.trim(store.History{}, time.Hour+1) // when the first 1 would be too old
	l.wantReceipt(again)
	for i := range time.Duration(100) {
		l.commit(nil, receipt("a", "1", 5+i, two))
	}
	l.wantReceipt(receipt("a", "1", 104, two))
}

func receiptsByCount(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	window := store.Window{MaxCount: 3}
	for i := range 5 {
		l.commit(nil, receipt("a", fmt.Sprint(i), time.Duration(i), window), receipt("b", fmt.Sprint(i), time.Duration(i), day))
	}
	for i := range 5 {
		if i < 2 {
			l.wantNoReceipt("a", fmt.Sprint(i))
		} else {
			l.wantReceipt(receipt("a", fmt.Sprint(i), time.Duration(i), window))
		}
		l.wantReceipt(receipt("b", fmt.Sprint(i), time.Duration(i), day))
	}
	window.MaxCount = 1
	batch := []store.IdempotencyRecord{receipt("a", "5", 5, window), receipt("a", "6", 6, window)}
	l.commit([]*store.Entry{l.entry("x", "t")}, batch...)
	for i := range 6 {
		l.wantNoReceipt("a", fmt.Sprint(i))
	}
	l.wantReceipt(batch[1])
}

func receiptsByAge(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	hour, minute, ever := store.Window{MaxAge: time.Hour}, store.Window{MaxAge: time.Minute}, store.Window{}
	kept := []store.IdempotencyRecord{receipt("ever", "1", 0, ever), receipt("hour", "1", 0, hour), receipt("minute", "2", time.Second, minute)}
	l.commit(nil, receipt("minute", "1", 0, minute), kept[0], kept[1])
	l.commit(nil, kept[2])
	l.trim(store.History{}, time.Minute-1)
	l.wantReceipt(receipt("minute", "1", 0, minute))
	l.trim(store.History{}, time.Minute)
	l.wantNoReceipt("minute", "1")
	for _, r := range kept {
		l.wantReceipt(r)
	}
	l.trim(store.History{}, time.Minute+time.Second)
	l.wantNoReceipt("minute", "2")
	l.trim(store.History{}, 1000*time.Hour)
	l.wantNoReceipt("hour", "1")
	l.wantReceipt(kept[0])
}

// sign is the naive way to keep receipts.
func (m *list) sign(receipts []store.IdempotencyRecord) {
	for _, r := range receipts {
		m.receipts = slices.DeleteFunc(m.receipts, func(o store.IdempotencyRecord) bool { return o.Scope == r.Scope && o.Key == r.Key })
		m.receipts = append(m.receipts, r)
		m.windows[r.Scope] = r.Window
		of := func(o store.IdempotencyRecord) bool { return o.Scope == r.Scope }
		for n := len(m.receiptsOf(r.Scope)); r.Window.MaxCount > 0 && n > r.Window.MaxCount; n-- {
			i := slices.IndexFunc(m.receipts, of)
			m.receipts = slices.Delete(m.receipts, i, i+1)
		}
	}
}

func (m *list) receiptsOf(space string) (of []store.IdempotencyRecord) {
	for _, r := range m.receipts {
		if r.Scope == space {
			of = append(of, r)
		}
	}
	return of
}

func (m *list) expire(now time.Time) {
	m.receipts = slices.DeleteFunc(m.receipts, func(r store.IdempotencyRecord) bool {
		maxAge := m.windows[r.Scope].MaxAge
		return maxAge > 0 && now.Sub(r.Time) >= maxAge
	})
}

// receipts draws some, of times that go on.
func (w *walker) receipts(t *rapid.T, atLeast int) (receipts []store.IdempotencyRecord) {
	for range rapid.IntRange(atLeast, 4).Draw(t, "receipts") {
		w.list.now += time.Duration(rapid.IntRange(0, 3).Draw(t, "later")) * time.Second
		receipts = append(receipts, receipt(
			rapid.SampledFrom(names[:2]).Draw(t, "space"),
			rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6", "7"}).Draw(t, "key"),
			w.list.now,
			store.Window{
				MaxCount: rapid.IntRange(0, 5).Draw(t, "count"),
				MaxAge:   time.Duration(rapid.IntRange(0, 20).Draw(t, "window")) * time.Second,
			},
		))
	}
	return receipts
}

func (w *walker) sign(t *rapid.T) {
	receipts := w.receipts(t, 1)
	w.log.commit(nil, receipts...)
	w.list.sign(receipts)
}

func (w *walker) checkReceipts(t *rapid.T) {
	for _, space := range names[:2] {
		held := 0
		for i := range 8 {
			if _, _, ok := w.log.IdempotencyRecord(space, keyOf(fmt.Sprint(i))); ok {
				held++
			}
		}
		of := w.list.receiptsOf(space)
		if held != len(of) {
			t.Fatalf("%s holds %d receipts, want %+v", space, held, of)
		}
		for _, r := range of {
			if at, answer, ok := w.log.IdempotencyRecord(r.Scope, r.Key); !ok || !at.Equal(r.Time) || answer != r.Answer {
				t.Fatalf("%+v is of %v and says %q (%v)", r, at, answer, ok)
			}
		}
	}
}
