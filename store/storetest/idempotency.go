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

// newRecord returns a record whose time is at after start.
func newRecord(scope, key string, at time.Duration, window store.Window) store.IdempotencyRecord {
	return store.IdempotencyRecord{Scope: scope, Key: keyOf(key), Time: start.Add(at), Outcome: fmt.Sprint(key, " at ", at), Window: window}
}

func keyOf(name string) (key store.HashedKey) {
	copy(key[:], name)
	return key
}

// wantRecord fails the test if the record is not found as it was appended.
func (l *log) wantRecord(r store.IdempotencyRecord) {
	l.Helper()
	at, answer, ok := l.IdempotencyRecord(r.Scope, r.Key)
	if !ok || !at.Equal(r.Time) || answer != r.Outcome {
		l.Errorf("%s of %s has time %v and outcome %q (%v), want %+v", r.Key, r.Scope, at, answer, ok, r)
	}
}

func (l *log) wantNoRecord(scope, key string) {
	l.Helper()
	if at, answer, ok := l.IdempotencyRecord(scope, keyOf(key)); ok || answer != "" || !at.IsZero() {
		l.Errorf("%s of %s has time %v and outcome %q (%v), want none", key, scope, at, answer, ok)
	}
}

func recordsFound(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.wantNoRecord("a", "1")
	first := newRecord("a", "1", 1, day)
	binary := newRecord("b", "1", 2, day)
	binary.Outcome = "\x00\xff" + strings.Repeat("x", 300)
	empty := newRecord("", "\xff\x00\xfe", 3, day)
	empty.Outcome = ""
	l.commit([]*store.Entry{l.entry("x", "t")}, first, binary)
	l.commit([]*store.Entry{l.entry("x", "t")}, empty)
	l.wantRecord(first)
	l.wantRecord(binary)
	l.wantRecord(empty)
	l.wantNoRecord("a", "2")
	l.wantNoRecord("c", "1")
	l.wantNoRecord("", "1")
}

func recordsAlone(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	alone := newRecord("a", "alone", 0, day)
	l.commit(nil, alone)
	l.wantRange(1, 0)
	with := newRecord("a", "with", 1, day)
	l.commit([]*store.Entry{l.entry("x", "t")}, with)
	l.trim(store.History{MaxAge: 1}, time.Hour)
	l.wantRange(2, 1)
	l.add("t")
	l.wantRecord(alone)
	l.wantRecord(with)
}

func recordsReplaced(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	two := store.Window{MaxCount: 2, MaxAge: time.Hour}
	other, again := newRecord("a", "2", 2, two), newRecord("a", "1", 3, two)
	l.commit(nil, newRecord("a", "1", 1, two), other)
	l.commit(nil, again)
	l.wantRecord(again)
	l.wantRecord(other)
	l.commit(nil, newRecord("a", "3", 4, two)) // the oldest is now 2
	l.wantNoRecord("a", "2")
	l.wantRecord(again)
	l.trim(store.History{}, time.Hour+1) // when the first 1 would be too old
	l.wantRecord(again)
	for i := range time.Duration(100) {
		l.commit(nil, newRecord("a", "1", 5+i, two))
	}
	l.wantRecord(newRecord("a", "1", 104, two))
}

func recordsByCount(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	window := store.Window{MaxCount: 3}
	for i := range 5 {
		l.commit(nil, newRecord("a", fmt.Sprint(i), time.Duration(i), window), newRecord("b", fmt.Sprint(i), time.Duration(i), day))
	}
	for i := range 5 {
		if i < 2 {
			l.wantNoRecord("a", fmt.Sprint(i))
		} else {
			l.wantRecord(newRecord("a", fmt.Sprint(i), time.Duration(i), window))
		}
		l.wantRecord(newRecord("b", fmt.Sprint(i), time.Duration(i), day))
	}
	window.MaxCount = 1
	batch := []store.IdempotencyRecord{newRecord("a", "5", 5, window), newRecord("a", "6", 6, window)}
	l.commit([]*store.Entry{l.entry("x", "t")}, batch...)
	for i := range 6 {
		l.wantNoRecord("a", fmt.Sprint(i))
	}
	l.wantRecord(batch[1])
}

func recordsByAge(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	hour, minute, ever := store.Window{MaxAge: time.Hour}, store.Window{MaxAge: time.Minute}, store.Window{}
	kept := []store.IdempotencyRecord{newRecord("ever", "1", 0, ever), newRecord("hour", "1", 0, hour), newRecord("minute", "2", time.Second, minute)}
	l.commit(nil, newRecord("minute", "1", 0, minute), kept[0], kept[1])
	l.commit(nil, kept[2])
	l.trim(store.History{}, time.Minute-1)
	l.wantRecord(newRecord("minute", "1", 0, minute))
	l.trim(store.History{}, time.Minute)
	l.wantNoRecord("minute", "1")
	for _, r := range kept {
		l.wantRecord(r)
	}
	l.trim(store.History{}, time.Minute+time.Second)
	l.wantNoRecord("minute", "2")
	l.trim(store.History{}, 1000*time.Hour)
	l.wantNoRecord("hour", "1")
	l.wantRecord(kept[0])
}

// putRecords appends records to the model.
func (m *naiveLog) putRecords(records []store.IdempotencyRecord) {
	for _, r := range records {
		m.records = slices.DeleteFunc(m.records, func(o store.IdempotencyRecord) bool { return o.Scope == r.Scope && o.Key == r.Key })
		m.records = append(m.records, r)
		m.windows[r.Scope] = r.Window
		of := func(o store.IdempotencyRecord) bool { return o.Scope == r.Scope }
		for n := len(m.recordsOf(r.Scope)); r.Window.MaxCount > 0 && n > r.Window.MaxCount; n-- {
			i := slices.IndexFunc(m.records, of)
			m.records = slices.Delete(m.records, i, i+1)
		}
	}
}

func (m *naiveLog) recordsOf(scope string) (of []store.IdempotencyRecord) {
	for _, r := range m.records {
		if r.Scope == scope {
			of = append(of, r)
		}
	}
	return of
}

func (m *naiveLog) expire(now time.Time) {
	m.records = slices.DeleteFunc(m.records, func(r store.IdempotencyRecord) bool {
		maxAge := m.windows[r.Scope].MaxAge
		return maxAge > 0 && now.Sub(r.Time) >= maxAge
	})
}

// drawRecords draws records with increasing times.
func (w *walker) drawRecords(t *rapid.T, atLeast int) (records []store.IdempotencyRecord) {
	for range rapid.IntRange(atLeast, 4).Draw(t, "records") {
		w.naive.now += time.Duration(rapid.IntRange(0, 3).Draw(t, "later")) * time.Second
		records = append(records, newRecord(
			rapid.SampledFrom(names[:2]).Draw(t, "scope"),
			rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "6", "7"}).Draw(t, "key"),
			w.naive.now,
			store.Window{
				MaxCount: rapid.IntRange(0, 5).Draw(t, "count"),
				MaxAge:   time.Duration(rapid.IntRange(0, 20).Draw(t, "window")) * time.Second,
			},
		))
	}
	return records
}

func (w *walker) putRecords(t *rapid.T) {
	records := w.drawRecords(t, 1)
	w.log.commit(nil, records...)
	w.naive.putRecords(records)
}

func (w *walker) checkRecords(t *rapid.T) {
	for _, scope := range names[:2] {
		held := 0
		for i := range 8 {
			if _, _, ok := w.log.IdempotencyRecord(scope, keyOf(fmt.Sprint(i))); ok {
				held++
			}
		}
		of := w.naive.recordsOf(scope)
		if held != len(of) {
			t.Fatalf("%s holds %d records, want %+v", scope, held, of)
		}
		for _, r := range of {
			if at, answer, ok := w.log.IdempotencyRecord(r.Scope, r.Key); !ok || !at.Equal(r.Time) || answer != r.Outcome {
				t.Fatalf("%+v has time %v and outcome %q (%v)", r, at, answer, ok)
			}
		}
	}
}
