package store

import (
	"slices"
	"sort"
	"strings"
	"time"
)

// index finds the entries of a log by topic and id. The index of a [File] holds the
// newest entries, the index of a [Memory] all. An entry on one topic costs about 20
// bytes in addition to the entry, and about 100 if it is only in the file.
type index struct {
	stored  []storedEntry // the oldest entries, which are only in the file
	entries []*Entry      // the entries after these, up to head
	head    uint64
	bytes   int64 // the size of all entries
	topics  map[string]*topicLog
	byID    map[string]uint64 // by the id that the publisher gave

	entriesBytes int64 // the size of entries
}

// storedEntry is the index's data about an entry that is only in the file.
type storedEntry struct {
	at     int64 // in nanoseconds of Unix time
	size   int64
	frame  int    // the length of its frame
	id     string // if the publisher gave it
	topics []*topicLog
}

// topicLog holds the positions of a topic's entries, in order.
type topicLog struct {
	name string
	seqs []uint64
}

func newIndex() index {
	return index{topics: make(map[string]*topicLog), byID: make(map[string]uint64)}
}

func (x *index) len() int { return len(x.stored) + len(x.entries) }

func (x *index) tail() uint64 { return x.head + 1 - uint64(x.len()) }

// has reports whether the log holds an entry at a position.
func (x *index) has(seq uint64) bool { return seq >= x.tail() && seq <= x.head }

// entry returns the entry at a position, or nil if it is not in memory.
func (x *index) entry(seq uint64) *Entry {
	if first := x.head + 1 - uint64(len(x.entries)); seq >= first && seq <= x.head {
		return x.entries[seq-first]
	}
	return nil
}

// frameLen returns the length of the frame of an entry that the log holds.
func (x *index) frameLen(seq uint64) int {
	if e := x.entry(seq); e != nil {
		return len(e.Frame)
	}
	return x.stored[seq-x.tail()].frame
}

// add adds an entry after the head, and keeps it in memory.
func (x *index) add(e *Entry) {
	x.addTopics(e)
	x.entries = append(x.entries, e)
	size := e.Size()
	x.bytes += size
	x.entriesBytes += size
}

// addStored adds an entry after the head that is only in the file. frame is the
// length of its frame, which e may lack. The index must hold no entry in memory.
func (x *index) addStored(e *Entry, frame int) {
	x.addTopics(e)
	x.stored = append(x.stored, x.storedEntry(e, frame))
	x.bytes += e.sizeWith(frame)
}

func (x *index) addTopics(e *Entry) {
	x.head = e.Seq
	if e.Given {
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
}

func (x *index) storedEntry(e *Entry, frame int) storedEntry {
	s := storedEntry{at: e.Time.UnixNano(), size: e.sizeWith(frame), frame: frame, topics: make([]*topicLog, len(e.Topics))}
	if e.Given {
		s.id = e.ID
	}
	for i, name := range e.Topics {
		s.topics[i] = x.topics[name]
	}
	return s
}

// oldest returns the time of the oldest entry, and false if there is none. The
// time of an entry in memory doesn't change when the clock is set back.
func (x *index) oldest() (time.Time, bool) {
	switch {
	case len(x.stored) > 0:
		return time.Unix(0, x.stored[0].at), true
	case len(x.entries) > 0:
		return x.entries[0].Time, true
	default:
		return time.Time{}, false
	}
}

// last returns the position of the newest entry on a topic, or zero.
func (x *index) last(topic string) uint64 {
	if t := x.topics[topic]; t != nil {
		return t.seqs[len(t.seqs)-1]
	}
	return 0
}

// before returns the position before the newest n entries on any of the topics.
func (x *index) before(topics []string, n int) uint64 {
	var unread [][]uint64 // of each topic, without the entries counted
	for _, name := range topics {
		if t := x.topics[name]; t != nil {
			unread = append(unread, t.seqs)
		}
	}
	oldest := x.head + 1
	for range n {
		newest := uint64(0)
		for i, seqs := range unread {
			if last := len(seqs) - 1; last >= 0 && seqs[last] == oldest { // on several of the topics
				unread[i] = seqs[:last]
			}
			if last := len(unread[i]) - 1; last >= 0 {
				newest = max(newest, unread[i][last])
			}
		}
		if newest == 0 {
			break
		}
		oldest = newest
	}
	return oldest - 1
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

// exceeds reports whether the log must drop its oldest entry.
func (x *index) exceeds(h History, now time.Time) bool {
	oldest, ok := x.oldest()
	if ok && h.MaxAge > 0 && now.Sub(oldest) >= h.MaxAge {
		return true
	}
	if x.len() <= 1 {
		return false
	}
	return h.MaxEvents > 0 && x.len() > h.MaxEvents || h.MaxBytes > 0 && x.bytes > h.MaxBytes
}

// drop removes the oldest entry, which is also the oldest of each of its topics.
func (x *index) drop() {
	seq := x.tail()
	if len(x.stored) > 0 {
		s := &x.stored[0]
		for _, t := range s.topics {
			x.dropFrom(t)
		}
		x.dropID(s.id, seq)
		x.bytes -= s.size
		*s = storedEntry{} // so that the array keeps no pointers
		x.stored = x.stored[1:]
		return
	}
	e := x.popEntry()
	for _, name := range e.Topics {
		x.dropFrom(x.topics[name])
	}
	x.dropID(e.ID, seq)
	x.bytes -= e.Size()
}

func (x *index) dropFrom(t *topicLog) {
	if t.seqs = t.seqs[1:]; len(t.seqs) == 0 {
		delete(x.topics, t.name)
	}
}

func (x *index) dropID(id string, seq uint64) {
	if x.byID[id] == seq {
		delete(x.byID, id)
	}
}

// popEntry removes the oldest of the entries that are in memory.
func (x *index) popEntry() *Entry {
	e := x.entries[0]
	x.entries[0] = nil // so that the array keeps no pointer
	x.entries = x.entries[1:]
	x.entriesBytes -= e.Size()
	return e
}

// limitCache keeps at most maxBytes of entries in memory, and at least the newest
// entry.
func (x *index) limitCache(maxBytes int64) {
	for x.entriesBytes > maxBytes && len(x.entries) > 1 {
		e := x.popEntry()
		x.stored = append(x.stored, x.storedEntry(e, len(e.Frame)))
	}
}

// find returns the positions of the entries that a read returns. It appends them to
// seqs, and sets Tail, UpTo and More of b.
func (x *index) find(topics []string, after uint64, maxBytes int, seqs []uint64, b *Batch) []uint64 {
	b.Tail, b.UpTo = x.tail(), x.head
	if x.hasFewAfter(after, len(topics)) {
		return x.scan(topics, after, maxBytes, seqs, b)
	}
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
		if seq == last { // an entry on several of the topics
			continue
		}
		if total += x.frameLen(seq); total > maxBytes && last != 0 {
			b.UpTo, b.More = last, true
			break
		}
		seqs, last = append(seqs, seq), seq
	}
	return seqs
}

// hasFewAfter reports whether the entries after a position are so few, and all in
// memory, that a look at each costs less than a look at each of n topics.
func (x *index) hasFewAfter(after uint64, n int) bool {
	return after+1 >= x.head+1-uint64(len(x.entries)) && after <= x.head && x.head-after < uint64(n)/8
}

// scan is find for few entries and many topics.
func (x *index) scan(topics []string, after uint64, maxBytes int, seqs []uint64, b *Batch) []uint64 {
	total, last := 0, uint64(0)
	for seq := after + 1; seq <= x.head; seq++ {
		e := x.entry(seq)
		if !slices.ContainsFunc(e.Topics, func(t string) bool { _, ok := slices.BinarySearch(topics, t); return ok }) {
			continue
		}
		if total += len(e.Frame); total > maxBytes && last != 0 {
			b.UpTo, b.More = last, true
			break
		}
		seqs, last = append(seqs, seq), seq
	}
	return seqs
}

// topicReader holds the unread positions of a topic: at least one.
type topicReader []uint64

// topicReaders merges the positions of several topics. It is a heap, ordered by each
// topic's next position, so a read costs only the positions that it returns.
type topicReaders []topicReader

func (h topicReaders) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

// next removes and returns the lowest position. It returns the position of an entry
// on several topics once for each.
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

// after returns the positions after seq. It looks at the end first, where nearly all
// readers are.
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
