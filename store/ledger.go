package store

import (
	"slices"
	"time"
)

// dedupIndex holds receipts by their spaces. The zero one is empty.
type dedupIndex struct {
	spaces map[string]*space
	// due is when the first receipt passes its age, zero if none ever does:
	// so that nothing is looked through before.
	due time.Time
	// dropped is told the number of each receipt that goes, if it is set.
	dropped func(number uint64)
	last    uint64 // the number of the newest receipt
}

// space is the receipts of one space.
type space struct {
	window Window
	// held is by key. Every receipt in it has its mark in order; a mark whose
	// receipt was replaced has none.
	held  map[HashedKey]held
	order []mark // the oldest first
}

type held struct {
	number uint64
	at     int64 // in nanoseconds of Unix time
	answer string
}

type mark struct {
	key    HashedKey
	number uint64
}

// add takes a receipt in, and drops what its space has no room for.
func (l *dedupIndex) add(r *IdempotencyRecord) {
	l.last++
	l.put(l.last, r)
}

// put is add for a receipt that has its number already, higher than all others.
func (l *dedupIndex) put(number uint64, r *IdempotencyRecord) {
	if l.spaces == nil {
		l.spaces = make(map[string]*space)
	}
	s := l.spaces[r.Scope]
	if s == nil {
		s = &space{held: make(map[HashedKey]held)}
		l.spaces[r.Scope] = s
	}
	l.last = number
	if before, ok := s.held[r.Key]; ok {
		l.tell(before.number)
	}
	s.window = r.Window
	s.held[r.Key] = held{number, r.Time.UnixNano(), r.Answer}
	s.order = append(s.order, mark{r.Key, number})
	if len(s.order) > 2*len(s.held)+8 {
		s.order = slices.DeleteFunc(s.order, s.isStale)
	}
	for s.window.MaxCount > 0 && len(s.held) > s.window.MaxCount {
		l.dropOldest(s)
	}
	if due, ok := s.due(); ok && (l.due.IsZero() || due.Before(l.due)) {
		l.due = due
	}
}

// isStale tells that the mark's receipt was replaced.
func (s *space) isStale(m mark) bool { return s.held[m.key].number != m.number }

// due is when the oldest receipt of the space passes its age.
func (s *space) due() (time.Time, bool) {
	for len(s.order) > 0 && s.isStale(s.order[0]) {
		s.order = s.order[1:]
	}
	if s.window.MaxAge <= 0 || len(s.order) == 0 {
		return time.Time{}, false
	}
	oldest := s.held[s.order[0].key]
	return time.Unix(0, oldest.at).Add(s.window.MaxAge), true
}

// expire drops what is too old, and the spaces in which nothing is left.
func (l *dedupIndex) expire(now time.Time) {
	if l.due.IsZero() || now.Before(l.due) {
		return
	}
	l.due = time.Time{}
	for name, s := range l.spaces {
		due, ok := s.due()
		for ok && !due.After(now) {
			l.dropOldest(s)
			due, ok = s.due()
		}
		if len(s.order) == 0 {
			delete(l.spaces, name)
		} else if ok && (l.due.IsZero() || due.Before(l.due)) {
			l.due = due
		}
	}
}

func (l *dedupIndex) dropOldest(s *space) {
	m := s.order[0]
	s.order = s.order[1:]
	if s.isStale(m) {
		return
	}
	delete(s.held, m.key)
	l.tell(m.number)
}

func (l *dedupIndex) tell(number uint64) {
	if l.dropped != nil {
		l.dropped(number)
	}
}

func (l *dedupIndex) find(name string, key HashedKey) (time.Time, string, bool) {
	s := l.spaces[name]
	if s == nil {
		return time.Time{}, "", false
	}
	h, ok := s.held[key]
	if !ok {
		return time.Time{}, "", false
	}
	return time.Unix(0, h.at), h.answer, true
}
