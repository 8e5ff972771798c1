package store

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// index is what a [File] knows by heart: where each entry is, but not what it
// says. It costs about 100 bytes for an entry on one topic.
type index struct {
	refs   []ref // without gaps, up to head
	head   uint64
	bytes  int64 // what the entries count
	topics map[string]*topicLog
	given  map[string]uint64

	// cached is the position of the oldest entry that is in memory whole; so
	// are all after it. cachedBytes is what those count.
	cached      uint64
	cachedBytes int64
}

// ref is one entry.
type ref struct {
	at     int64  // in nanoseconds of Unix time
	size   int64  // what it counts
	frame  int    // how many bytes its frame has
	id     string // if it was given
	topics []*topicLog
	entry  *Entry // nil if it must be read from the file
}

// topicLog is the positions of a topic's entries, in order.
type topicLog struct {
	name string
	seqs []uint64
}

func newIndex() index {
	return index{topics: make(map[string]*topicLog), given: make(map[string]uint64), cached: 1}
}

func (x *index) tail() uint64 { return x.head + 1 - uint64(len(x.refs)) }

// at returns an entry's ref, or nil.
func (x *index) at(seq uint64) *ref {
	if tail := x.tail(); seq >= tail && seq <= x.head {
		return &x.refs[seq-tail]
	}
	return nil
}

// add puts an entry behind the head; frame is the length of its frame. The
// entry itself is kept only if it is to be cached.
func (x *index) add(e *Entry, frame int, cache bool) {
	r := ref{at: e.Time.UnixNano(), size: e.sizeWith(frame), frame: frame}
	x.head = e.Seq
	if e.Given {
		r.id = e.ID
		x.given[e.ID] = e.Seq
	}
	r.topics = make([]*topicLog, len(e.Topics))
	for i, name := range e.Topics {
		t := x.topics[name]
		if t == nil {
			t = &topicLog{name: name}
			x.topics[name] = t
		}
		t.seqs = append(t.seqs, e.Seq)
		r.topics[i] = t
	}
	x.bytes += r.size
	if cache {
		r.entry = e
		x.cachedBytes += r.size
	} else {
		x.cached = e.Seq + 1
	}
	x.refs = append(x.refs, r)
}

// over tells whether the oldest entry must go.
func (x *index) over(h History, now time.Time) bool {
	if len(x.refs) == 0 {
		return false
	}
	if h.MaxAge > 0 && now.Sub(time.Unix(0, x.refs[0].at)) >= h.MaxAge {
		return true
	}
	if len(x.refs) == 1 {
		return false
	}
	return h.MaxEvents > 0 && len(x.refs) > h.MaxEvents || h.MaxBytes > 0 && x.bytes > h.MaxBytes
}

// drop removes the oldest entry. It is the oldest of its topics too.
func (x *index) drop() {
	seq, r := x.tail(), &x.refs[0]
	for _, t := range r.topics {
		if t.seqs = t.seqs[1:]; len(t.seqs) == 0 {
			delete(x.topics, t.name)
		}
	}
	if r.id != "" && x.given[r.id] == seq {
		delete(x.given, r.id)
	}
	x.bytes -= r.size
	if x.cached <= seq {
		x.forget(seq)
	}
	*r = ref{} // so that the array keeps nothing alive
	x.refs = x.refs[1:]
}

// forget takes the oldest entry that is in memory out of it.
func (x *index) forget(seq uint64) {
	r := x.at(seq)
	x.cachedBytes -= r.size
	r.entry = nil
	x.cached = seq + 1
}

// bound keeps no more than about maxBytes in memory, but the newest.
func (x *index) bound(maxBytes int64) {
	for x.cachedBytes > maxBytes && x.cached < x.head {
		x.forget(x.cached)
	}
}

// select returns which entries a read gives, as b's bounds say, which it
// narrows. It appends to seqs.
func (x *index) find(topics []string, after uint64, maxBytes int, seqs []uint64, b *Batch) []uint64 {
	b.Tail, b.UpTo = x.tail(), x.head
	for _, name := range topics {
		t := x.topics[name]
		if t == nil {
			continue
		}
		unread := t.after(after)
		n := x.fitting(unread, maxBytes)
		seqs = append(seqs, unread[:n]...)
		if n < len(unread) {
			b.UpTo = min(b.UpTo, unread[n-1])
		}
	}
	if len(topics) > 1 {
		seqs = x.merge(seqs, maxBytes, b)
	}
	b.More = b.UpTo < x.head
	return seqs
}

// merge puts what several topics gave into the order of the log, each entry
// once, and cuts it where one of the topics was cut or the bytes run out.
func (x *index) merge(seqs []uint64, maxBytes int, b *Batch) []uint64 {
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	n, _ := slices.BinarySearchFunc(seqs, b.UpTo+1, cmp.Compare[uint64])
	seqs = seqs[:n]
	if n := x.fitting(seqs, maxBytes); n < len(seqs) {
		seqs = seqs[:n]
		b.UpTo = seqs[n-1]
	}
	return seqs
}

// fitting returns how many of the entries make up about maxBytes: at least one,
// if there are any.
func (x *index) fitting(seqs []uint64, maxBytes int) int {
	total, tail := 0, x.tail()
	for i, seq := range seqs {
		total += x.refs[seq-tail].frame
		if total > maxBytes && i > 0 {
			return i
		}
	}
	return len(seqs)
}

// after returns the positions behind one. Readers are nearly always at the end,
// so that is tried first.
func (t *topicLog) after(seq uint64) []uint64 {
	n := len(t.seqs)
	if n == 0 || t.seqs[n-1] <= seq {
		return nil
	}
	if n == 1 || t.seqs[n-2] <= seq {
		return t.seqs[n-1:]
	}
	return t.seqs[sort.Search(n, func(i int) bool { return t.seqs[i] > seq }):]
}
