package store

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// A commit can fail when its last write has reached the disk all the same. What
// it added was refused, and must not come back.
func TestWhatAFailedAppendLeftBehindIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	entries := func(from, to uint64, data string) (entries []*Entry) {
		for seq := from; seq <= to; seq++ {
			entries = append(entries, &Entry{Seq: seq, Time: time.Unix(1, 0), Topics: []string{"a"}, ID: fmt.Sprint(data, seq), Given: true, Frame: []byte(data)})
		}
		return entries
	}
	if err := f.Append(entries(1, 2, "kept"), []Receipt{{Space: "s", Key: Key{1}}}); err != nil {
		t.Fatal(err)
	}
	err = f.db.Update(func(tx *bbolt.Tx) error {
		b := bucketsOf(tx)
		if err := b.put(2, entries(3, 9, "refused")); err != nil {
			return err
		}
		return b.sign(2, []Receipt{{Space: "s", Key: Key{2}}, {Space: "s", Key: Key{3}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Append(entries(3, 3, "kept"), []Receipt{{Space: "s", Key: Key{4}}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = OpenFile(path, FileOptions{}); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if tail, head := f.Range(); tail != 1 || head != 3 || string(f.Entry(3).Frame) != "kept" || f.Lookup("refused4") != nil {
		t.Errorf("the log is %d to %d, and ends with %+v", tail, head, f.Entry(3))
	}
	for key, want := range map[Key]bool{{1}: true, {2}: false, {3}: false, {4}: true} {
		if _, _, ok := f.Receipt("s", key); ok != want {
			t.Errorf("receipt %d is there: %v", key[0], ok)
		}
	}
}

func FuzzRecord(f *testing.F) {
	e := &Entry{Seq: 7, Time: time.Unix(1, 2), Topics: []string{"a", ""}, ID: "x", Given: true, Frame: []byte("data: x\n\n")}
	f.Add(appendRecord(nil, e), appendReceipt(nil, &Receipt{Space: "s", Answer: "a", Time: time.Unix(1, 2), Window: Window{1, 2}}))
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, record, receipt []byte) {
		if e, err := parseRecord(7, record); err == nil {
			again, err := parseRecord(7, appendRecord(nil, e))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(e) {
				t.Errorf("%+v became %+v, %v", e, again, err)
			}
		}
		if r, err := parseReceipt(receipt); err == nil {
			again, err := parseReceipt(appendReceipt(nil, r))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
				t.Errorf("%+v became %+v, %v", r, again, err)
			}
		}
	})
}
