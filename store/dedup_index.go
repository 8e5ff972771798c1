package store

import (
	"slices"
	"time"
)

// dedupIndex holds idempotency records by scope. The zero value is empty.
type dedupIndex struct {
	scopes map[string]*scope
	// nextExpiry is when the next record expires, zero if none ever does.
	// expire does nothing before.
	nextExpiry time.Time
	// onDrop, if set, is called with the number of each record that the index
	// drops.
	onDrop     func(number uint64)
	lastNumber uint64 // the number of the newest record
}

// scope holds the records of one scope.
type scope struct {
	window Window
	// records are the scope's records by key. order refers to each, and may
	// refer to records that others have replaced since.
	records map[HashedKey]storedRecord
	order   []recordRef // oldest first
}

// storedRecord is what the index holds of a record.
type storedRecord struct {
	number  uint64
	at      int64 // in nanoseconds of Unix time
	outcome string
}

// recordRef refers to a record.
type recordRef struct {
	key    HashedKey
	number uint64
}

// add adds a record, and drops the oldest that exceed the scope's bound.
func (x *dedupIndex) add(r *IdempotencyRecord) {
	x.lastNumber++
	x.addNumbered(x.lastNumber, r)
}

// addNumbered adds a record under a number, which must be higher than all before.
func (x *dedupIndex) addNumbered(number uint64, r *IdempotencyRecord) {
	if x.scopes == nil {
		x.scopes = make(map[string]*scope)
	}
	s := x.scopes[r.Scope]
	if s == nil {
		s = &scope{records: make(map[HashedKey]storedRecord)}
		x.scopes[r.Scope] = s
	}
	x.lastNumber = number
	if before, ok := s.records[r.Key]; ok {
		x.reportDrop(before.number)
	}
	s.window = r.Window
	s.records[r.Key] = storedRecord{number, r.Time.UnixNano(), r.Outcome}
	s.order = append(s.order, recordRef{r.Key, number})
	if len(s.order) > 2*len(s.records)+8 {
		s.order = slices.DeleteFunc(s.order, s.isReplaced)
	}
	for s.window.MaxCount > 0 && len(s.records) > s.window.MaxCount {
		x.dropOldest(s)
	}
	if due, ok := s.oldestExpiry(); ok && (x.nextExpiry.IsZero() || due.Before(x.nextExpiry)) {
		x.nextExpiry = due
	}
}

// all returns all records; those of a scope in their order.
func (x *dedupIndex) all() []IdempotencyRecord {
	var records []IdempotencyRecord
	for name, s := range x.scopes {
		for _, m := range s.order {
			if !s.isReplaced(m) {
				r := s.records[m.key]
				records = append(records, IdempotencyRecord{Scope: name, Key: m.key, Time: time.Unix(0, r.at), Outcome: r.outcome, Window: s.window})
			}
		}
	}
	return records
}

// isReplaced reports whether another record has replaced the one referred to.
func (s *scope) isReplaced(m recordRef) bool { return s.records[m.key].number != m.number }

// oldestExpiry returns when the scope's oldest record expires, and false if none
// does.
func (s *scope) oldestExpiry() (time.Time, bool) {
	for len(s.order) > 0 && s.isReplaced(s.order[0]) {
		s.order = s.order[1:]
	}
	if s.window.MaxAge <= 0 || len(s.order) == 0 {
		return time.Time{}, false
	}
	oldest := s.records[s.order[0].key]
	return time.Unix(0, oldest.at).Add(s.window.MaxAge), true
}

// expire drops the records that are too old, and empty scopes.
func (x *dedupIndex) expire(now time.Time) {
	if x.nextExpiry.IsZero() || now.Before(x.nextExpiry) {
		return
	}
	x.nextExpiry = time.Time{}
	for name, s := range x.scopes {
		due, ok := s.oldestExpiry()
		for ok && !due.After(now) {
			x.dropOldest(s)
			due, ok = s.oldestExpiry()
		}
		if len(s.order) == 0 {
			delete(x.scopes, name)
		} else if ok && (x.nextExpiry.IsZero() || due.Before(x.nextExpiry)) {
			x.nextExpiry = due
		}
	}
}

func (x *dedupIndex) dropOldest(s *scope) {
	m := s.order[0]
	s.order = s.order[1:]
	if s.isReplaced(m) {
		return
	}
	delete(s.records, m.key)
	x.reportDrop(m.number)
}

func (x *dedupIndex) reportDrop(number uint64) {
	if x.onDrop != nil {
		x.onDrop(number)
	}
}

// find returns the time and the outcome of a record, and false if there is none.
func (x *dedupIndex) find(name string, key HashedKey) (time.Time, string, bool) {
	s := x.scopes[name]
	if s == nil {
		return time.Time{}, "", false
	}
	h, ok := s.records[key]
	if !ok {
		return time.Time{}, "", false
	}
	return time.Unix(0, h.at), h.outcome, true
}
