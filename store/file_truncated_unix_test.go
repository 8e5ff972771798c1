//go:build unix

package store_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// promptly calls do, which must return soon.
func promptly(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// useLog appends to a log and reads it from the file, until the log fails.
func useLog(t *testing.T, f *store.File, appended chan<- uint64) {
	var using sync.WaitGroup
	failed := make(chan struct{})
	for range 4 {
		using.Go(func() {
			for seq := uint64(1); ; seq++ {
				select {
				case <-failed:
					return
				default:
					_, _ = f.Read([]string{"a"}, seq%40, 4000, nil)
				}
			}
		})
	}
	using.Go(func() {
		defer close(failed)
		_, head := f.Range()
		for f.Append([]*store.Entry{entry(head+1, strings.Repeat("y", 3000), "a")}, nil) == nil {
			head++
			select {
			case appended <- head:
			default:
			}
		}
	})
	using.Wait()
}

func TestTruncatedFileFailsEveryCallAtOnce(t *testing.T) {
	for _, size := range []int64{0, 100, 4096, 8192, 12288, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path, _ := damagedFile(t, func(b []byte) []byte { return b })
			f := openFile(t, path) // no entry is in memory
			appended := make(chan uint64, 1)
			promptly(t, "using the log", func() {
				go func() {
					<-appended
					if err := os.Truncate(path, size); err != nil {
						t.Error(err)
					}
				}()
				useLog(t, f, appended)
			})
			for range 3 {
				promptly(t, "an append", func() {
					if err := f.Append([]*store.Entry{entry(1000, "x", "a")}, nil); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path) {
						t.Errorf("the append returned %v", err)
					}
				})
				promptly(t, "a read", func() {
					if _, err := f.Read([]string{"a"}, 0, 1000, nil); !errors.Is(err, store.ErrDamaged) {
						t.Errorf("the read returned %v", err)
					}
					_ = f.Entry(1)
				})
			}
			promptly(t, "Trim", func() {
				if err := f.Trim(store.History{MaxEvents: 1}, time.Now()); !errors.Is(err, store.ErrDamaged) {
					t.Errorf("Trim returned %v", err)
				}
			})
			promptly(t, "Close", func() { _ = f.Close() })
			promptly(t, "the next open", func() {
				replaced := false
				next, err := store.OpenFile(path, store.FileOptions{OnReplace: func(string, error) { replaced = true }})
				if err != nil || !replaced {
					t.Fatalf("the file was replaced: %v, %v", replaced, err)
				}
				_ = next.Close()
			})
		})
	}
}
