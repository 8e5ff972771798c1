package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

const pageSize = 4096

// usedLog writes a log as a hub does: with large and small events, idempotency
// records, and free pages. It returns what the file contains then.
func usedLog(t *testing.T) (content []byte, epoch string) {
	path := pathOf(t)
	f := openFile(t, path)
	for seq := uint64(1); seq <= 120; seq += 4 {
		var batch []*store.Entry
		for i := range uint64(4) {
			batch = append(batch, entry(seq+i, strings.Repeat("x", int(seq+i)*25), "a", "topic-of-this"))
		}
		key := store.HashedKey([]byte(fmt.Sprintf("%016d", seq)))
		record := store.IdempotencyRecord{Scope: "s", Key: key, Time: time.Unix(1, 0), Outcome: strings.Repeat("o", 200)}
		if err := f.Append(batch, []store.IdempotencyRecord{record}); err != nil {
			t.Fatal(err)
		}
		if err := f.Trim(store.History{MaxEvents: 60}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	epoch = f.Epoch()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content, epoch
}

// checkUsedLog checks that a file is refused, or is the log of usedLog and works.
// It reports whether the file is refused.
func checkUsedLog(t *testing.T, path, epoch string) (refused bool) {
	f, err := store.OpenFile(path, store.FileOptions{})
	if errors.Is(err, store.ErrDamaged) {
		return true
	}
	if err != nil {
		t.Errorf("opening: %v", err)
		return false
	}
	defer f.Close()
	if tail, head := f.Range(); tail != 61 || head != 120 || f.Epoch() != epoch {
		t.Errorf("the log of %s is %d to %d", f.Epoch(), tail, head)
		return false
	}
	for seq := uint64(1); seq <= 120; seq += 4 {
		if _, _, ok := f.IdempotencyRecord("s", store.HashedKey([]byte(fmt.Sprintf("%016d", seq)))); !ok {
			t.Errorf("the record of %d is missing", seq)
		}
	}
	for seq := uint64(61); seq <= 120; seq++ {
		want := entry(seq, strings.Repeat("x", int(seq)*25), "a", "topic-of-this")
		b, err := f.Read([]string{"a"}, seq-1, 1, nil)
		switch {
		case errors.Is(err, store.ErrDamaged): // the data is checked when it is read
		case err != nil || len(b.Entries) != 1 || b.Entries[0].ID != want.ID || !bytes.Equal(b.Entries[0].Frame, want.Frame):
			t.Errorf("the event at %d is %+v, %v", seq, b.Entries, err)
		}
	}
	if err := f.Append([]*store.Entry{entry(121, "new", "a"), entry(122, strings.Repeat("n", 9000), "a")}, nil); err != nil {
		t.Errorf("appending: %v", err)
	}
	if err := f.Trim(store.History{MaxEvents: 2}, time.Unix(1, 0)); err != nil {
		t.Errorf("trimming: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	again, err := store.OpenFile(path, store.FileOptions{})
	if err != nil {
		t.Errorf("opening it again: %v", err)
		return false
	}
	defer again.Close()
	wantEntries(t, again, 0, 121, 122)
	return false
}

// corruption is a way to damage a file.
type corruption struct {
	name  string
	apply func(content []byte, r *rand.Rand) []byte
}

func corruptions(pages int) (all []corruption) {
	add := func(name string, apply func(b []byte, r *rand.Rand) []byte) {
		all = append(all, corruption{name, apply})
	}
	for page := range pages {
		at := page * pageSize
		add(fmt.Sprintf("page %d is zeros", page), func(b []byte, _ *rand.Rand) []byte { clear(b[at : at+pageSize]); return b })
		add(fmt.Sprintf("page %d is noise", page), func(b []byte, r *rand.Rand) []byte {
			for i := range pageSize {
				b[at+i] = byte(r.Uint32())
			}
			return b
		})
		add(fmt.Sprintf("page %d is another page", page), func(b []byte, r *rand.Rand) []byte {
			from := r.IntN(pages) * pageSize
			copy(b[at:at+pageSize], b[from:from+pageSize])
			return b
		})
		add(fmt.Sprintf("the header of page %d has a wrong byte", page), func(b []byte, r *rand.Rand) []byte {
			b[at+r.IntN(32)] ^= byte(1 + r.IntN(255))
			return b
		})
		add(fmt.Sprintf("page %d has a wrong word", page), func(b []byte, r *rand.Rand) []byte {
			from := at + r.IntN(pageSize-8)
			for i := range 8 {
				b[from+i] = []byte{0, 0xFF, byte(r.Uint32())}[r.IntN(3)]
			}
			return b
		})
		add(fmt.Sprintf("page %d has a wrong bit", page), func(b []byte, r *rand.Rand) []byte {
			b[at+r.IntN(pageSize)] ^= 1 << r.IntN(8)
			return b
		})
		add(fmt.Sprintf("the file ends in page %d", page), func(b []byte, r *rand.Rand) []byte { return b[:at+r.IntN(pageSize)] })
	}
	return all
}

// A file that is damaged anywhere is refused, or is complete and can be written.
// With CADDY_SSE_FULL each kind of damage is tried many times on each page.
func TestDamagedFileIsRefusedOrWorks(t *testing.T) {
	content, epoch := usedLog(t)
	rounds, step := uint64(1), 3
	if os.Getenv("CADDY_SSE_FULL") != "" {
		rounds, step = 50, 1
	}
	refused, all := 0, 0
	for round := range rounds {
		for i, c := range corruptions(len(content) / pageSize) {
			if i%step != 0 {
				continue
			}
			damaged := c.apply(bytes.Clone(content), rand.New(rand.NewPCG(round, uint64(i))))
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprint(c.name, " ", round), func(t *testing.T) {
				if checkUsedLog(t, path, epoch) {
					refused++
				}
			})
			_ = os.RemoveAll(filepath.Dir(path))
			all++
		}
	}
	t.Logf("%d of %d files are refused", refused, all)
	if refused < all/10 || refused == all {
		t.Errorf("%d of %d files are refused", refused, all)
	}
}

// If the newest transaction is lost, its positions must not be used again.
func TestFileWithoutNewestTransactionIsRefused(t *testing.T) {
	content, epoch := usedLog(t)
	for name, damage := range map[string]func(b []byte){
		"page 0 is zeros":  func(b []byte) { clear(b[:pageSize]) },
		"page 1 is zeros":  func(b []byte) { clear(b[pageSize : 2*pageSize]) },
		"page 0 is page 1": func(b []byte) { copy(b[:pageSize], b[pageSize:2*pageSize]) },
		"page 1 is page 0": func(b []byte) { copy(b[pageSize:2*pageSize], b[:pageSize]) },
		"a number differs": func(b []byte) { b[64]++ },
	} {
		t.Run(name, func(t *testing.T) {
			damaged := bytes.Clone(content)
			damage(damaged)
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if !checkUsedLog(t, path, epoch) {
				t.Error("the file is opened")
			}
		})
	}
}
