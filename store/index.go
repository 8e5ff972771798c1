package store

import (
	"sort"
	"strings"
	"time"
)

// index knows where each entry of a log is. Of a [File] it holds the newest
// entries whole, of a [Memory] all of them. Beside the entry it costs about 100
// bytes for an entry on one topic.
type index struct {
	refs   []ref // without gaps, up to head
	head   uint64
	bytes  int64 // what the entries count
	topics map[string]*topicLog
	byID   map[string]uint64

	// cached is the position of the oldest entry that is in memory whole; so
	// are all after it. cachedBytes is what those count.
	cached      uint64
	cachedBytes int64
}

// ref is one entry.
type ref struct {
	at     int64       // in nanoseconds of Unix time
	size   int64       // what it counts
	frame  int         // how many bytes its frame has
	id     string      // if it was given
	topics []*topicLog // unless the entry has them
	entry  *Entry      // nil if it must be read from the file
}

// time returns when the entry was published: of an entry in memory as the clock
// that can't be set back tells it.
func (r *ref) time() time.Time {
	if r.entry != nil {
		return r.entry.Time
	}
	return time.Unix(0, r.at)
}

// topicLog is the positions of a topic's entries, in order.
type topicLog struct {
	name string
	seqs []uint64
}

func newIndex() index {
	return index{topics: make(map[string]*topicLog), byID: make(map[string]uint64), cached: 1}
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
		x.byID[e.ID] = e.Seq
	}
	for _, name := range e.Topics {
		t := x.topics[name]
		if t == nil {
			t = &topicLog{name: name}
			x.topics[name] = t
		}
		t.seqs = append(t.seqs, e.Seq)
	}
	x.bytes += r.size
	if cache {
		r.entry = e
		x.cachedBytes += r.size
	} else {
		r.topics = x.logsOf(e.Topics)
		x.cached = e.Seq + 1
	}
	x.refs = append(x.refs, r)
}

func (x *index) logsOf(topics []string) []*topicLog {
	logs := make([]*topicLog, len(topics))
	for i, name := range topics {
		logs[i] = x.topics[name]
	}
	return logs
}

// oldest returns the time of the oldest entry, and false if there is none.
func (x *index) oldest() (time.Time, bool) {
	if len(x.refs) == 0 {
		return time.Time{}, false
	}
	return x.refs[0].time(), true
}

// lastNumber returns the position of the newest entry on a topic, or zero.
func (x *index) last(topic string) uint64 {
	if t := x.topics[topic]; t != nil {
		return t.seqs[len(t.seqs)-1]
	}
	return 0
}

// topicsWith returns the topics that begin with a prefix.
func (x *index) topicsWith(prefix string) []string {
	var found []string
	for topic := range x.topics {
		if strings.HasPrefix(topic, prefix) {
			found = append(found, topic)
		}
	}
	return found
}

// exceeds tells whether the oldest entry must go.
func (x *index) exceeds(h History, now time.Time) bool {
	if len(x.refs) == 0 {
		return false
	}
	if h.MaxAge > 0 && now.Sub(x.refs[0].time()) >= h.MaxAge {
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
	if r.entry != nil {
		for _, name := range r.entry.Topics {
			x.dropFrom(x.topics[name])
		}
	}
	for _, t := range r.topics {
		x.dropFrom(t)
	}
	if r.id != "" && x.byID[r.id] == seq {
		delete(x.byID, r.id)
	}
	x.bytes -= r.size
	if x.cached <= seq {
		x.evict(seq)
	}
	*r = ref{} // so that the array keeps nothing alive
	x.refs = x.refs[1:]
}

func (x *index) dropFrom(t *topicLog) {
	if t.seqs = t.seqs[1:]; len(t.seqs) == 0 {
		delete(x.topics, t.name)
	}
}

// evict takes the oldest entry that is in memory out of it.
func (x *index) evict(seq uint64) {
	r := x.at(seq)
	x.cachedBytes -= r.size
	r.topics = x.logsOf(r.entry.Topics)
	r.entry = nil
	x.cached = seq + 1
}

// limitCache keeps no more than about maxBytes in memory, but the newest.
func (x *index) limitCache(maxBytes int64) {
	for x.cachedBytes > maxBytes && x.cached < x.head {
		x.evict(x.cached)
	}
}

// find returns the positions of the entries that a read gives. It appends them
// to seqs, and sets the bounds of b.
func (x *index) find(topics []string, after uint64, maxBytes int, seqs []uint64, b *Batch) []uint64 {
	b.Tail, b.UpTo = x.tail(), x.head
	var room [8]topicReader
	readers := topicReaders(room[:0])
	for _, name := range topics {
		if t := x.topics[name]; t != nil {
			if unread := t.after(after); len(unread) > 0 {
				readers = append(readers, unread)
			}
		}
	}
	readers.init()
	for total, last := 0, uint64(0); len(readers) > 0; {
		seq := readers.next()
		if seq == last { // it is on several of the topics
			continue
		}
		if total += x.at(seq).frame; total > maxBytes && last != 0 {
			b.UpTo, b.More = last, true
			break
		}
		seqs, last = append(seqs, seq), seq
	}
	return seqs
}

// topicReader is the unread positions of a topic: at least one.
type topicReader []uint64

// topicReaders merges the positions of several topics: a heap, ordered by each
// topic's next position. A read takes from it only the positions that it gives.
type topicReaders []topicReader

func (h topicReaders) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

// next removes and returns the lowest position. One on several topics is
// returned for each.
func (h *topicReaders) next() uint64 {
	first := &(*h)[0]
	seq := (*first)[0]
	if *first = (*first)[1:]; len(*first) == 0 {
		n := len(*h) - 1
		(*h)[0] = (*h)[n]
		*h = (*h)[:n]
	}
	h.down(0)
	return seq
}

func (h topicReaders) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if right := least + 1; right < len(h) && h[right][0] < h[least][0] {
			least = right
		}
		if h[i][0] <= h[least][0] {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
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
