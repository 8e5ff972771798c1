package store

import (
	"errors"
	"os"
	"testing"

	"go.etcd.io/bbolt"
)

// written is a file for which during is called once, after some reads more than
// the first.
type written struct {
	*os.File
	during func(read []byte)
	after  int
}

func (w *written) ReadAt(b []byte, at int64) (int, error) {
	n, err := w.File.ReadAt(b, at)
	if during := w.during; during != nil && w.after == 0 {
		w.during = nil
		during(b)
	}
	w.after--
	return n, err
}

// If locks have no effect, a store may read the meta pages while another one
// writes them. That they don't belong together then is no damage.
func TestMetaPagesThatAreBeingWrittenAreNoDamage(t *testing.T) {
	path := t.TempDir() + "/log"
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	write := func() {
		if err := db.Update(func(*bbolt.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	before, err := readMeta(file)
	if err != nil || isChanged(file, before) {
		t.Fatalf("%+v, %v", before, err)
	}
	for name, during := range map[string]func([]byte){
		"two transactions between the pages":   func([]byte) { write(); write() },
		"three transactions between the pages": func([]byte) { write(); write(); write() },
		"a page that is half written":          func(read []byte) { read[metaTx]++ },
	} {
		for range 2 { // the first page is the newer or the older one
			if m, err := readMeta(&written{File: file, during: during}); err == nil && m == before || err != nil && (!errors.Is(err, errChanged) || errors.Is(err, ErrDamaged)) {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
			write()
			if !isChanged(&written{File: file, during: during}, before) {
				t.Errorf("%s: the file has not changed", name)
			}
		}
	}
	if _, err := file.WriteAt([]byte("damaged"), metaTx); err != nil {
		t.Fatal(err)
	}
	if _, err := readMeta(file); !errors.Is(err, ErrDamaged) || isChanged(file, before) {
		t.Errorf("damage that stays: %v", err)
	}
}
