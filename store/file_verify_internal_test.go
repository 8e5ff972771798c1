package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"testing"

	"go.etcd.io/bbolt"
)

// databaseFile returns the path of a bbolt file whose tree has a leaf with an
// inline bucket, and whose list of free pages is not empty.
func databaseFile(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/log"
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("small"))
			if err != nil {
				return err
			}
			large, err := tx.CreateBucketIfNotExists([]byte("large"))
			if err != nil {
				return err
			}
			for n := range 40 {
				if err := large.Put(fmt.Append(nil, "key ", n), make([]byte, 500)); err != nil {
					return err
				}
			}
			return b.Put([]byte("key"), fmt.Append(nil, i))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// pageOf returns the bytes of a page.
func pageOf(content []byte, m dbMeta, id uint64) []byte {
	return content[int64(id)*m.pageSize:][:m.pageSize]
}

func verifyBytes(content []byte, m dbMeta) error {
	return verify(bytes.NewReader(content), int64(len(content)), m)
}

func TestEachPartOfTheStructureIsVerified(t *testing.T) {
	content, err := os.ReadFile(databaseFile(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := readMeta(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	whole := content[:int64(m.pages)*m.pageSize] // bbolt's file may be longer
	if err := verifyBytes(whole, m); err != nil {
		t.Fatalf("the file with its last page: %v", err)
	}
	if err := verifyBytes(whole[:len(whole)-1], m); !errors.Is(err, ErrDamaged) {
		t.Errorf("the file without the end of its last page: %v", err)
	}
	for _, size := range []int64{0, 256, 1 << 25} {
		if err := verifyBytes(content, dbMeta{pageSize: size}); !errors.Is(err, ErrDamaged) {
			t.Errorf("pages of %d bytes: %v", size, err)
		}
	}
	root := pageOf(content, m, m.root)
	if kind := binary.NativeEndian.Uint16(root[8:]); kind != leafPage {
		t.Fatalf("the root is of the kind %x", kind)
	}
	// The root's elements are the buckets large, which has pages of its own, and
	// small, whose value is its only page.
	large, small := pageHeader, pageHeader+pageElement
	word := binary.NativeEndian.PutUint32
	for name, damage := range map[string]func(root, free []byte){
		"an inline bucket without room for its header": func(root, _ []byte) { word(root[small+12:], 16+pageHeader-1) },
		"a value that is longer than its page":         func(root, _ []byte) { word(root[large:], 0); word(root[large+12:], 1<<20) },
		"a page of another kind":                       func(root, _ []byte) { root[8] = freelistPage },
		"a list of free pages of another kind":         func(_, free []byte) { free[8] = leafPage },
		"more free pages than there are":               func(_, free []byte) { binary.NativeEndian.PutUint16(free[10:], 0xFFFE) },
	} {
		damaged := bytes.Clone(content)
		damage(pageOf(damaged, m, m.root), pageOf(damaged, m, m.freelist))
		if err := verifyBytes(damaged, m); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEachPartOfAMetaPageIsVerified(t *testing.T) {
	content, err := os.ReadFile(databaseFile(t))
	if err != nil {
		t.Fatal(err)
	}
	withChecksum := func(page []byte) {
		sum := fnv.New64a()
		_, _ = sum.Write(page[metaStart:metaChecksum])
		binary.NativeEndian.PutUint64(page[metaChecksum:], sum.Sum64())
	}
	for name, damage := range map[string]func(page []byte){
		"another magic number":        func(page []byte) { page[metaStart]++; withChecksum(page) },
		"another version":             func(page []byte) { page[metaVersion]++; withChecksum(page) },
		"another root":                func(page []byte) { page[metaRoot]++ },
		"another checksum":            func(page []byte) { page[metaChecksum]++ },
		"another magic and no sum":    func(page []byte) { page[metaStart]++ },
		"a size of pages of 1 << 31":  func(page []byte) { page[metaPageSize+3] = 0x80 },
		"a transaction of the future": func(page []byte) { page[metaTx] += 7; withChecksum(page) },
	} {
		for _, at := range []int{0, os.Getpagesize()} {
			damaged := bytes.Clone(content)
			damage(damaged[at:])
			if _, err := readMeta(bytes.NewReader(damaged)); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s at %d: %v", name, at, err)
			}
		}
	}
	for _, size := range []int{0, metaEnd - 1, os.Getpagesize(), os.Getpagesize() + metaEnd - 1} {
		if _, err := readMeta(bytes.NewReader(content[:size])); !errors.Is(err, ErrDamaged) {
			t.Errorf("a file of %d bytes: %v", size, err)
		}
	}
}

// unreadable is a file on a disk that fails.
type unreadable struct{ err error }

func (u unreadable) ReadAt([]byte, int64) (int, error) { return 0, u.err }

func TestFileThatCannotBeReadIsNotDamaged(t *testing.T) {
	failed := errors.New("input/output error")
	if _, err := readMeta(unreadable{failed}); !errors.Is(err, failed) || errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// If locks have no effect, another store may write the file while it is verified.
// An error found then is no damage, and the bytes that were read may be out of date.
func TestFileThatIsWrittenWhileItIsVerifiedHasChanged(t *testing.T) {
	path := databaseFile(t)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := verifyUnchanged(file); err != nil {
		t.Fatal(err)
	}
	write := func([]byte) {
		err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("small")).Put([]byte("key"), nil) })
		if err != nil {
			t.Error(err)
		}
	}
	for name, during := range map[string]func([]byte){
		"without effect on what is read": write,
		"beside what looks like damage":  func(read []byte) { clear(read); write(nil) },
	} {
		const metaPages = 2
		if _, err := verifyUnchanged(&written{file, during, metaPages}); !errors.Is(err, errChanged) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
