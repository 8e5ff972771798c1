package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func withoutHardLinks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { link = os.Link })
	link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
}

func TestLogIsCreatedWithoutHardLinks(t *testing.T) {
	withoutHardLinks(t)
	path := filepath.Join(t.TempDir(), "log")
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	epoch := f.Epoch()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = OpenFile(path, FileOptions{}); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Epoch() != epoch {
		t.Errorf("the log has epoch %s, and had %s", f.Epoch(), epoch)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestConcurrentCreationsMakeOneFile(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T){"with hard links": func(*testing.T) {}, "without hard links": withoutHardLinks} {
		t.Run(name, func(t *testing.T) {
			prepare(t)
			path := filepath.Join(t.TempDir(), "log")
			found := make([]fs.FileInfo, 16)
			var creating sync.WaitGroup
			for i := range found {
				creating.Go(func() {
					if err := create(path); err != nil {
						t.Error(err)
						return
					}
					found[i], _ = os.Stat(path)
				})
			}
			creating.Wait()
			for _, info := range found {
				if !os.SameFile(info, found[0]) {
					t.Fatal("a file was replaced after it had been created")
				}
			}
		})
	}
}

func TestLogIsNotCreatedWhereNeitherLinkNorRenameWorks(t *testing.T) {
	withoutHardLinks(t)
	path := filepath.Join(t.TempDir(), "missing", "log")
	if err := linkOrRename(path+".new-1", path); err == nil {
		t.Error("no error")
	}
}
