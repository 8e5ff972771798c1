package store

import (
	"os"
	"path/filepath"
	"testing"
)

// The target of a link may be on a volume that is not mounted.
func TestLogDoesNotReplaceDanglingLink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := os.Symlink(filepath.Join(dir, "not-mounted", "log"), path); err != nil {
		t.Skip("there are no symbolic links here: ", err)
	}
	for name, prepare := range map[string]func(*testing.T){"with hard links": func(*testing.T) {}, "without hard links": withoutHardLinks} {
		t.Run(name, func(t *testing.T) {
			prepare(t)
			if f, err := OpenFile(path, FileOptions{}); err == nil {
				t.Error("a log was created in place of the link")
				_ = f.Close()
			}
			if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("the link is gone: %v, %v", info, err)
			}
		})
	}
}
