package caddysse

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store"
)

func init() {
	caddy.RegisterModule(MemoryStore{})
	caddy.RegisterModule(FileStore{})
}

// StoreOpener is the interface of modules in the namespace `sse.stores`.
type StoreOpener interface {
	// OpenStore opens the store of the hub of that name. It is called once in
	// the life of a hub, which may span many configurations: when the first
	// of them starts. It is not called for a configuration that Caddy only
	// validates or can't provision.
	OpenStore(hub string) (store.Store, error)
}

// MemoryStore stores a hub's log in memory. The log ends with the process.
type MemoryStore struct{}

// CaddyModule returns the module's information.
func (MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse.stores.memory", New: func() caddy.Module { return new(MemoryStore) }}
}

// OpenStore implements [StoreOpener].
func (MemoryStore) OpenStore(string) (store.Store, error) { return store.NewMemory(), nil }

// FileStore stores a hub's log in a file, so that it outlives the process. A
// webhook is acknowledged when its event is on the disk. After a restart or a
// crash, clients resume at their positions.
type FileStore struct {
	// Sets the directory of the file, as an absolute path. The module creates a
	// missing directory, with access for its owner only. The file's name is the
	// hub's name with the suffix .db; % and two hexadecimal digits replace each
	// byte other than a-z, 0-9, - and _. Only one process at a time can open
	// the file. May contain placeholders such as {env.STATE_DIRECTORY}.
	// Required.
	Dir string `json:"dir,omitempty"`

	// Sets the reaction to a damaged file: "refuse" refuses to start and leaves
	// the file unchanged, "replace" starts with an empty log and renames the
	// damaged file, with the suffix .damaged- and the time. Default: "refuse".
	Damaged string `json:"damaged,omitempty"`

	dir string
	log *zap.Logger
}

// CaddyModule returns the module's information.
func (FileStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse.stores.file", New: func() caddy.Module { return new(FileStore) }}
}

// Provision checks the configuration. It doesn't touch any file.
func (s *FileStore) Provision(ctx caddy.Context) (err error) {
	s.log = ctx.Logger()
	if s.Dir == "" {
		return errors.New("a file store needs a directory: write `store file /var/lib/caddy/sse`")
	}
	if s.Damaged != "" && s.Damaged != "refuse" && s.Damaged != "replace" {
		return fmt.Errorf("damaged %q: want refuse or replace", s.Damaged)
	}
	s.dir, err = caddy.NewReplacer().ReplaceOrErr(s.Dir, true, true)
	if err != nil {
		return fmt.Errorf("dir %q: %w", s.Dir, err)
	}
	return nil
}

// OpenStore implements [StoreOpener].
func (s *FileStore) OpenStore(hub string) (store.Store, error) {
	if err := checkFileName(hub); err != nil {
		return nil, err
	}
	var options store.FileOptions
	if s.Damaged == "replace" {
		options.OnReplace = func(aside string, cause error) {
			s.log.Error("a damaged log is replaced by an empty one: clients are reset",
				zap.String("hub", hub), zap.String("aside", aside), zap.Error(cause))
		}
	}
	f, err := store.OpenFile(filepath.Join(s.dir, fileName(hub)), options)
	if errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w: move it away, or write `damaged replace`", err)
	}
	if err != nil {
		return nil, err // not f, which is no nil interface
	}
	return f, nil
}

// fileName returns the name of a hub's file. It differs for each hub, also on
// file systems that ignore case.
func fileName(hub string) string {
	var b strings.Builder
	for i := range len(hub) {
		c := hub[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String() + ".db"
}

func checkFileName(hub string) error {
	if n := len(fileName(hub)); n > 200 {
		return fmt.Errorf("%d bytes are too many for a file's name: give the hub a shorter one", n)
	}
	return nil
}

// UnmarshalCaddyfile parses the store of a hub:
//
//	store file <dir> {
//		damaged refuse | replace
//	}
func (s *FileStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // file
	if !d.AllArgs(&s.Dir) || s.Dir == "" {
		return d.Errf("store file takes a directory: write `store file /var/lib/caddy/sse`")
	}
	return parseBlock(d, "store file", options{"damaged": s.parseDamaged})
}

func (s *FileStore) parseDamaged(d *caddyfile.Dispenser) error {
	if err := word(&s.Damaged)(d); err != nil {
		return err
	}
	if s.Damaged != "refuse" && s.Damaged != "replace" {
		return d.Errf("damaged %q: want refuse or replace", s.Damaged)
	}
	return nil
}

// Interface guards
var (
	_ StoreOpener           = MemoryStore{}
	_ StoreOpener           = (*FileStore)(nil)
	_ caddy.Provisioner     = (*FileStore)(nil)
	_ caddyfile.Unmarshaler = (*FileStore)(nil)
)
