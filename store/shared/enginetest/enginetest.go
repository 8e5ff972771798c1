// Package enginetest tests implementations of [shared.Engine].
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store/shared"
)

// Run tests an engine. Each test calls open for a new empty log, and connect as
// often as it needs connections to that log; both must register a cleanup.
func Run(t *testing.T, open func(t *testing.T) (connect func() shared.Engine)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, connect func() shared.Engine)
	}{
		{"messages are numbered from 1 and read as they were appended", numbered},
		{"a reader receives what another connection appends later", live},
		{"concurrent appends have one order for all readers", concurrent},
		{"a reader begins after any message, and with the oldest that is left", readAfter},
		{"numbers continue after all messages were dropped", dropAll},
		{"Read ends with its context and with f's error", readEnds},
		{"a message can have MaxMessage bytes of any kind", large},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func add(t *testing.T, e shared.Engine, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := e.Append(timeout(t), []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

var errEnough = errors.New("enough")

// read reads n messages after a number, as number:message.
func read(t *testing.T, e shared.Engine, after uint64, n int) []string {
	t.Helper()
	var got []string
	err := e.Read(timeout(t), after, func(seq uint64, message []byte) error {
		if got = append(got, fmt.Sprintf("%d:%s", seq, message)); len(got) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("read %q, then %v", got, err)
	}
	return got
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

func wantHead(t *testing.T, e shared.Engine, want uint64) {
	t.Helper()
	if head, err := e.Head(timeout(t)); err != nil || head != want {
		t.Errorf("the head is %d, %v, want %d", head, err, want)
	}
}

func numbered(t *testing.T, connect func() shared.Engine) {
	e := connect()
	wantHead(t, e, 0)
	add(t, e, "a", "", "c")
	wantHead(t, e, 3)
	want(t, read(t, connect(), 0, 3), "1:a", "2:", "3:c")
}

func live(t *testing.T, connect func() shared.Engine) {
	a, b := connect(), connect()
	add(t, a, "a")
	var reading sync.WaitGroup
	defer reading.Wait()
	first := make(chan struct{})
	reading.Go(func() {
		n := 0
		_ = b.Read(timeout(t), 0, func(seq uint64, message []byte) error {
			if n++; n == 1 {
				close(first)
				return nil
			}
			if seq != 2 || string(message) != "b" {
				t.Errorf("read %d:%s", seq, message)
			}
			return errEnough
		})
	})
	<-first
	add(t, a, "b")
}

func concurrent(t *testing.T, connect func() shared.Engine) {
	const writers, each = 3, 50
	var writing sync.WaitGroup
	defer writing.Wait()
	for w := range writers {
		e := connect()
		writing.Go(func() {
			for i := range each {
				if err := e.Append(timeout(t), fmt.Appendf(nil, "%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	one := read(t, connect(), 0, writers*each)
	writing.Wait()
	want(t, read(t, connect(), 0, writers*each), one...)
}

func readAfter(t *testing.T, connect func() shared.Engine) {
	e := connect()
	add(t, e, "a", "b", "c", "d")
	want(t, read(t, e, 2, 2), "3:c", "4:d")
	if err := e.Drop(timeout(t), 2); err != nil {
		t.Fatal(err)
	}
	want(t, read(t, e, 0, 2), "3:c", "4:d")
	want(t, read(t, e, 1, 2), "3:c", "4:d")
	if err := e.Drop(timeout(t), 1); err != nil {
		t.Errorf("dropping what is dropped: %v", err)
	}
	wantHead(t, e, 4)
}

func dropAll(t *testing.T, connect func() shared.Engine) {
	e := connect()
	add(t, e, "a", "b")
	if err := e.Drop(timeout(t), 2); err != nil {
		t.Fatal(err)
	}
	wantHead(t, e, 2)
	add(t, e, "c")
	want(t, read(t, connect(), 0, 1), "3:c")
}

func readEnds(t *testing.T, connect func() shared.Engine) {
	e := connect()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	add(t, e, "a")
	err := e.Read(ctx, 0, func(uint64, []byte) error {
		cancel()
		return nil
	})
	if err == nil {
		t.Error("Read ended without an error")
	}
	want(t, read(t, e, 0, 1), "1:a")
}

func large(t *testing.T, connect func() shared.Engine) {
	e := connect()
	message := bytes.Repeat([]byte("\x00\r\n\xff"), e.MaxMessage()/4)
	add(t, e, string(message))
	if got := read(t, connect(), 0, 1); got[0] != "1:"+string(message) {
		t.Errorf("%d bytes differ from %d", len(got[0])-2, len(message))
	}
}
