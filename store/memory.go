package store

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"
)

// Memory is a store that keeps the log in memory: it ends with the process.
type Memory struct {
	epoch  string
	secret []byte

	mu     sync.RWMutex
	log    queue
	head   uint64
	bytes  int64
	topics map[string]*queue
	given  map[string]*Entry

	receipts dedupIndex
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty log with an epoch of its own.
func NewMemory() *Memory {
	epoch, secret := newEpoch()
	return &Memory{
		epoch:  epoch,
		secret: secret,
		topics: make(map[string]*queue),
		given:  make(map[string]*Entry),
	}
}

// Epoch implements [Store].
func (m *Memory) Epoch() string { return m.epoch }

// Secret implements [Store].
func (m *Memory) Secret() []byte { return m.secret }

// Append implements [Store]. It never fails.
func (m *Memory) Append(entries []*Entry, receipts []IdempotencyRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range receipts {
		m.receipts.add(&receipts[i])
	}
	for _, e := range entries {
		m.log.push(e)
		m.head = e.Seq
		m.bytes += e.Size()
		if e.Given {
			m.given[e.ID] = e
		}
		for _, t := range e.Topics {
			m.topicLocked(t).push(e)
		}
	}
	return nil
}

func (m *Memory) topicLocked(topic string) *queue {
	q := m.topics[topic]
	if q == nil {
		q = new(queue)
		m.topics[topic] = q
	}
	return q
}

// Trim implements [Store]. It never fails.
func (m *Memory) Trim(h History, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.log) > 0 && m.overLocked(h, now) {
		m.dropLocked()
	}
	m.receipts.expire(now)
	return nil
}

func (m *Memory) overLocked(h History, now time.Time) bool {
	if h.MaxAge > 0 && now.Sub(m.log[0].Time) >= h.MaxAge {
		return true
	}
	if len(m.log) == 1 {
		return false
	}
	return h.MaxEvents > 0 && len(m.log) > h.MaxEvents || h.MaxBytes > 0 && m.bytes > h.MaxBytes
}

// dropLocked removes the oldest entry. It is the oldest of its topics too.
func (m *Memory) dropLocked() {
	e := m.log.pop()
	m.bytes -= e.Size()
	if e.Given {
		delete(m.given, e.ID)
	}
	for _, t := range e.Topics {
		if q := m.topics[t]; len(*q) > 1 {
			q.pop()
		} else {
			delete(m.topics, t)
		}
	}
}

// Range implements [Store].
func (m *Memory) Range() (tail, head uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tailLocked(), m.head
}

func (m *Memory) tailLocked() uint64 { return m.head + 1 - uint64(len(m.log)) }

// Oldest implements [Store].
func (m *Memory) Oldest() (time.Time, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.log) == 0 {
		return time.Time{}, false
	}
	return m.log[0].Time, true
}

// Entry implements [Store].
func (m *Memory) Entry(seq uint64) *Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if seq < m.tailLocked() || seq > m.head {
		return nil
	}
	return m.log[seq-m.tailLocked()]
}

// Lookup implements [Store].
func (m *Memory) Lookup(id string) *Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.given[id]
}

// IdempotencyRecord implements [Store].
func (m *Memory) IdempotencyRecord(space string, key HashedKey) (time.Time, string, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.receipts.find(space, key)
}

// Last implements [Store].
func (m *Memory) Last(topic string) *Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if q := m.topics[topic]; q != nil {
		return (*q)[len(*q)-1]
	}
	return nil
}

// Topics implements [Store].
func (m *Memory) Topics(prefix string) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return withPrefix(maps.Keys(m.topics), prefix)
}

// Read implements [Store]. It never fails.
func (m *Memory) Read(topics []string, after uint64, maxBytes int, buf []*Entry) (Batch, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b := Batch{Entries: buf, Tail: m.tailLocked(), UpTo: m.head}
	start := len(buf)
	for _, t := range topics {
		q := m.topics[t]
		if q == nil {
			continue
		}
		unread := q.after(after)
		n := fitting(unread, maxBytes)
		b.Entries = append(b.Entries, unread[:n]...)
		if n < len(unread) {
			b.UpTo = min(b.UpTo, unread[n-1].Seq)
		}
	}
	if len(topics) > 1 {
		b.merge(start, maxBytes)
	}
	b.More = b.UpTo < m.head
	return b, nil
}

// merge puts what several topics gave into the order of the log, each entry
// once, and cuts it where one of the topics was cut or the bytes run out.
func (b *Batch) merge(start, maxBytes int) {
	read := b.Entries[start:]
	slices.SortFunc(read, func(x, y *Entry) int { return cmp.Compare(x.Seq, y.Seq) })
	read = slices.Compact(read)
	n, _ := slices.BinarySearchFunc(read, b.UpTo+1, func(e *Entry, seq uint64) int { return cmp.Compare(e.Seq, seq) })
	read = read[:n]
	if n := fitting(read, maxBytes); n < len(read) {
		read = read[:n]
		b.UpTo = read[n-1].Seq
	}
	b.Entries = b.Entries[:start+len(read)]
}

// fitting returns how many of the entries make up about maxBytes: at least one,
// if there are any.
func fitting(entries []*Entry, maxBytes int) int {
	total := 0
	for i, e := range entries {
		total += len(e.Frame)
		if total > maxBytes && i > 0 {
			return i
		}
	}
	return len(entries)
}

// Close implements [Store].
func (m *Memory) Close() error { return nil }

// queue holds entries in the order of the log. Popping keeps the array until
// the next growth, which leaves the popped part behind.
type queue []*Entry

func (q *queue) push(e *Entry) { *q = append(*q, e) }

func (q *queue) pop() *Entry {
	e := (*q)[0]
	(*q)[0] = nil // so that the array doesn't keep it alive
	*q = (*q)[1:]
	return e
}

// after returns the entries behind a position. Readers are nearly always at the
// end, so that is tried first.
func (q queue) after(seq uint64) []*Entry {
	n := len(q)
	if n == 0 || q[n-1].Seq <= seq {
		return nil
	}
	if n == 1 || q[n-2].Seq <= seq {
		return q[n-1:]
	}
	return q[sort.Search(n, func(i int) bool { return q[i].Seq > seq }):]
}
