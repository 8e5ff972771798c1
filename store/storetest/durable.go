package storetest

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/store"
)

// RunDurable tests stores that outlive the process, with the tests of [Run] and with
// reopened stores. open opens the store in a directory, which is empty at first.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()) })
	t.Run("any sequence of calls and reopens matches the model", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			dir := t.TempDir()
			w := newWalker(t, open(t, dir))
			actions := w.actions()
			actions["reopen"] = func(rt *rapid.T) {
				w.reopen(rt, func() store.Store { return open(t, dir) })
			}
			rt.Repeat(actions)
			if err := w.log.Close(); err != nil {
				rt.Fatal(err)
			}
		})
	})
}

// reopen closes the log and opens it again.
func (w *walker) reopen(t *rapid.T, open func() store.Store) {
	epoch, secret := w.log.Epoch(), bytes.Clone(w.log.Secret())
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	w.log.Store = open()
	if w.log.Epoch() != epoch || !bytes.Equal(w.log.Secret(), secret) {
		t.Fatal("the epoch or the secret has changed")
	}
}
