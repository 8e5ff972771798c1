package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// A commit can fail after its last write has reached the disk. The entries of such
// an append must not appear later.
func TestRefusedAppendIsRemovedFromFile(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, f *File){
		"by the next append": func(t *testing.T, f *File) {
			if err := f.Append(entriesOf(3, 3, "kept"), []IdempotencyRecord{{Scope: "s", Key: HashedKey{4}}}); err != nil {
				t.Fatal(err)
			}
		},
		"by Close": func(*testing.T, *File) {},
	} {
		t.Run(name, func(t *testing.T) { testRefusedAppend(t, next) })
	}
}

func entriesOf(from, to uint64, data string) (entries []*Entry) {
	for seq := from; seq <= to; seq++ {
		entries = append(entries, &Entry{Seq: seq, Time: time.Unix(1, 0), Topics: []string{"a"}, ID: fmt.Sprint(data, seq), Given: true, Frame: []byte(data)})
	}
	return entries
}

func testRefusedAppend(t *testing.T, next func(t *testing.T, f *File)) {
	path := filepath.Join(t.TempDir(), "log.db")
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Append(entriesOf(1, 2, "kept"), []IdempotencyRecord{{Scope: "s", Key: HashedKey{1}}}); err != nil {
		t.Fatal(err)
	}
	before := f.db.meta.tx
	err = f.db.Update(func(tx *bbolt.Tx) error {
		b := bucketsOf(tx)
		if err := b.putEntries(2, entriesOf(3, 9, "refused")); err != nil {
			return err
		}
		return b.putRecords(2, []IdempotencyRecord{{Scope: "s", Key: HashedKey{2}}, {Scope: "s", Key: HashedKey{3}}})
	})
	if err = errors.Join(err, f.checkOwner(before, before+1)); err != nil { // as commit does if Update fails
		t.Fatal(err)
	}
	f.uncommitted = true
	next(t, f)
	_, head := f.Range()
	_, _, record := f.IdempotencyRecord("s", HashedKey{4})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = OpenFile(path, FileOptions{}); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if tail, got := f.Range(); tail != 1 || got != head || string(f.Entry(got).Frame) != "kept" || f.Lookup("refused4") != nil {
		t.Errorf("the log is %d to %d, and ends with %+v", tail, got, f.Entry(got))
	}
	for key, want := range map[HashedKey]bool{{1}: true, {2}: false, {3}: false, {4}: record} {
		if _, _, ok := f.IdempotencyRecord("s", key); ok != want {
			t.Errorf("record %d is there: %v", key[0], ok)
		}
	}
}

func FuzzRecord(f *testing.F) {
	e := &Entry{Seq: 7, Time: time.Unix(1, 2), Topics: []string{"a", ""}, ID: "x", Given: true, Frame: []byte("data: x\n\n")}
	f.Add(appendRecord(nil, e), AppendIdempotencyRecord(nil, &IdempotencyRecord{Scope: "s", Outcome: "a", Time: time.Unix(1, 2), Window: Window{1, 2}}))
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, entry, record []byte) {
		if e, err := parseRecord(7, entry); err == nil {
			again, err := parseRecord(7, appendRecord(nil, e))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(e) {
				t.Errorf("%+v became %+v, %v", e, again, err)
			}
		}
		if r, err := ParseIdempotencyRecord(record); err == nil {
			again, err := ParseIdempotencyRecord(AppendIdempotencyRecord(nil, r))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
				t.Errorf("%+v became %+v, %v", r, again, err)
			}
		}
	})
}

func TestFailedShrinkLeavesNoTempFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for seq := range uint64(300) {
		if err := f.Append([]*Entry{{Seq: seq + 1, Time: time.Now(), Topics: []string{"a"}, ID: "x", Frame: make([]byte, 3000)}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	damageLeaves(t, path)
	for range 3 {
		if err := f.replace(); err == nil {
			t.Fatal("the damaged file is copied")
		}
	}
	if left, err := filepath.Glob(path + ".new-*"); len(left) > 0 || err != nil {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// damageLeaves changes the type of the leaf pages in use to an invalid one.
func damageLeaves(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size, kindAt, leaf = 4096, 8, 2
	damaged := 0
	for page := 4; (page+1)*size < len(raw); page++ {
		head := raw[page*size:]
		if binary.LittleEndian.Uint64(head) == uint64(page) && head[kindAt] == leaf && head[kindAt+2] > 0 {
			if _, err := file.WriteAt([]byte{0xff}, int64(page*size+kindAt)); err != nil {
				t.Fatal(err)
			}
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("no page is damaged")
	}
}

func TestShrinkKeepsSymbolicLink(t *testing.T) {
	real, link := filepath.Join(t.TempDir(), "log.db"), filepath.Join(t.TempDir(), "log.db")
	for _, path := range []string{real, link} {
		f, err := OpenFile(path, FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if path == link {
			if err := f.replace(); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("%v, %v", info, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if path == real {
			if err := os.Symlink(real, link); err != nil {
				t.Skip("there are no symbolic links here: ", err)
			}
		}
	}
}
