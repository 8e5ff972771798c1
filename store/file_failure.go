package store

import (
	"cmp"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// failure is the state of a store: it works until it fails, once and for good.
type failure struct {
	once   sync.Once
	failed chan struct{} // closed when the store has failed
	err    error         // set before failed is closed

	running atomic.Int64 // calls of run's functions
}

func newFailure() *failure { return &failure{failed: make(chan struct{})} }

// fail makes the store fail, and returns the error of its first failure.
func (f *failure) fail(err error) error {
	f.once.Do(func() {
		f.err = fmt.Errorf("the store is closed until Caddy restarts: %w", err)
		close(f.failed)
	})
	return f.err
}

// get returns why the store has failed, nil if it works.
func (f *failure) get() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// run calls do, which uses the database, and returns its result. If the store
// fails meanwhile, run returns that failure at once.
//
// bbolt reads a memory map. If the file is truncated, a read of the map faults,
// which bbolt survives as a panic, but it keeps the locks that it holds: every
// other goroutine that uses the database may then wait forever. So do runs in
// its own goroutine, which run leaves behind if the store fails. At most the
// calls that are in progress when a store fails leave one behind each. What do
// uses must not be used by others after run has returned the failure.
func run[T any](f *File, do func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	var none T
	if err := f.failure.get(); err != nil {
		return none, err
	}
	done := make(chan outcome, 1)
	f.failure.running.Add(1)
	go func() {
		defer f.failure.running.Add(-1)
		var o outcome
		err := catchDamage(func() error {
			o.value, o.err = do()
			return nil
		})
		if err != nil {
			o.err = f.failure.fail(f.explain(err))
		}
		done <- o
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-f.failure.failed:
		return none, f.failure.err
	}
}

// do is [run] without a result.
func (f *File) do(do func() error) error {
	_, err := run(f, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// catchDamage turns bbolt's panics about a file that makes no sense, and the
// faults of a file that is shorter than it was, into errors.
func catchDamage(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return do()
}

// checkSize fails if the file is smaller than the store left it.
func (f *File) checkSize(info os.FileInfo) error {
	if before := f.size.Load(); info.Size() < before {
		return fmt.Errorf("%w: it was truncated from %d to %d bytes while it was in use", ErrDamaged, before, info.Size())
	}
	return nil
}

// explain returns the reason for a fault of the memory map, as far as it can be
// known.
func (f *File) explain(fault error) error {
	if info, err := os.Stat(f.path); err == nil {
		return cmp.Or(f.checkSize(info), fault)
	}
	return fault
}
