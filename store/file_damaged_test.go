package store_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// damages are ways to damage a file.
var damages = map[string]func(content []byte) []byte{
	// Half of it can be space that bbolt doesn't use yet.
	"cut to a quarter": func(b []byte) []byte { return b[:len(b)/4] },
	"cut to a page":    func(b []byte) []byte { return b[:4096] },
	"empty":            func([]byte) []byte { return nil },
	"another's":        func([]byte) []byte { return []byte("{\"this\": \"is something else\"}\n") },
	"no beginning":     func(b []byte) []byte { clear(b[:8192]); return b },
	"only beginning":   func(b []byte) []byte { clear(b[8192:]); return b },
	"noise": func(b []byte) []byte {
		for i := range b[8192:] {
			b[8192+i] = byte(i * 7)
		}
		return b
	},
	"another topic": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("topic-of-this"), []byte("topic-of-that")) },
}

// damagedFile creates a log of a few large events and damages its file. It returns
// the path and the damaged content.
func damagedFile(t *testing.T, damage func([]byte) []byte) (path string, content []byte) {
	t.Helper()
	path = pathOf(t)
	f := openFile(t, path)
	for seq := uint64(1); seq <= 50; seq++ {
		appendTo(t, f, entry(seq, strings.Repeat("x", 3000), "a", "topic-of-this"))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err == nil {
		content = damage(content)
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestDamagedFileIsRefusedUnchanged(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			path, content := damagedFile(t, damage)
			for range 2 {
				f, err := store.OpenFile(path, store.FileOptions{Wait: time.Second})
				if !errors.Is(err, store.ErrDamaged) || f != nil || !strings.Contains(err.Error(), path) {
					t.Fatalf("%v", err)
				}
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file has been changed: %v", err)
			}
		})
	}
}

func TestDamagedFileIsReplacedIfConfigured(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			path, content := damagedFile(t, damage)
			var aside string
			f, err := store.OpenFile(path, store.FileOptions{OnReplace: func(to string, cause error) {
				aside = to
				if !errors.Is(cause, store.ErrDamaged) {
					t.Error(cause)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(aside); err != nil || !bytes.Equal(now, content) {
				t.Errorf("%q is not the damaged file: %v", aside, err)
			}
			if tail, head := f.Range(); tail != 1 || head != 0 {
				t.Errorf("the new log is %d to %d", tail, head)
			}
			appendTo(t, f, entry(1, "x", "a"))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			wantEntries(t, openFile(t, path), 0, 1)
		})
	}
}

func TestDamagedFrameIsNeverReturned(t *testing.T) {
	path, _ := damagedFile(t, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("xxxxx"), []byte("xxxyx"))
	})
	f := openFile(t, path) // the frames are not read yet
	if b, err := f.Read([]string{"a"}, 0, 1<<20, nil); !errors.Is(err, store.ErrDamaged) || len(b.Entries) > 0 {
		t.Errorf("%d entries, %v", len(b.Entries), err)
	}
	if e := f.Entry(1); e != nil {
		t.Errorf("%+v", e)
	}
	appendTo(t, f, entry(51, "x", "a"))
	wantEntries(t, f, 50, 51)
}

func TestOnlyDamagedFileIsReplaced(t *testing.T) {
	path := pathOf(t)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := store.OpenFile(path, store.FileOptions{OnReplace: func(string, error) { t.Error("it was set aside") }})
	if err == nil || errors.Is(err, store.ErrDamaged) {
		t.Errorf("a directory: %v", err)
	}
}
