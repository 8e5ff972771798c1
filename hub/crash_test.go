package hub_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// childPath is the environment variable that gives the child process of
// TestKilledProcessLosesNoAcknowledgedDelivery the path of its log.
const childPath = "CADDY_SSE_CRASH_CHILD"

// publishUntilKilled is the child process. It publishes the deliveries of each
// sender in order and prints each acknowledgement. A sender begins with its last
// acknowledged delivery, which is a duplicate then.
func publishUntilKilled(path string, next []string) int {
	f, err := store.OpenFile(path, store.FileOptions{})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	h := hub.New(f, store.History{})
	h.SetHistory(store.History{}) // as App.Start does
	fmt.Println("open")
	var wg sync.WaitGroup
	for sender, first := range next {
		n, err := strconv.Atoi(first)
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		wg.Go(func() {
			for ; ; n++ {
				got, err := h.PublishAll(delivery(sender, n), idempotencyKey(sender, n))
				if err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Println("ack", sender, n, got.Duplicate, strings.Join(got.IDs, " "))
			}
		})
	}
	wg.Wait()
	return 1
}

// delivery returns two events, of which the first has an id.
func delivery(sender, n int) []hub.Message {
	data := []byte(fmt.Sprint(sender, " ", n))
	topics := []string{fmt.Sprint("sender/", sender), "all"}
	return []hub.Message{
		{Topics: topics, Event: event.Event{ID: fmt.Sprintf("d-%d-%d", sender, n), Data: data}},
		{Topics: topics, Event: event.Event{Data: data}},
	}
}

func idempotencyKey(sender, n int) hub.IdempotencyKey {
	return hub.IdempotencyKey{Scope: fmt.Sprint(sender), ID: fmt.Sprint(n)}
}

const crashSenders = 8

func TestKilledProcessLosesNoAcknowledgedDelivery(t *testing.T) {
	kills := 10
	if testing.Short() {
		kills = 3
	}
	path := filepath.Join(t.TempDir(), "default.db")
	acknowledged := make(map[string]string) // the ids, by sender and number
	next := make([]int, crashSenders)
	for range kills {
		runUntilKilled(t, path, next, acknowledged)
	}
	f, err := store.OpenFile(path, store.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := newHubOn(t, f, store.History{})
	for sender, last := range next {
		if last == 0 {
			t.Errorf("sender %d has never been acknowledged", sender)
		}
		wantAllOf(t, h, sender, last, acknowledged)
	}
	t.Logf("%d deliveries were acknowledged, %d kills", len(acknowledged), kills)
}

// runUntilKilled starts the child, kills it at a random moment, and records its
// acknowledgements.
func runUntilKilled(t *testing.T, path string, next []int, acknowledged map[string]string) {
	t.Helper()
	var args []string
	for _, n := range next {
		args = append(args, strconv.Itoa(n))
	}
	child := exec.CommandContext(t.Context(), os.Args[0], args...)
	child.Env = append(os.Environ(), childPath+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var kill *time.Timer
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "open":
			kill = time.AfterFunc(time.Duration(50+rand.IntN(300))*time.Millisecond, func() { _ = child.Process.Kill() })
		case "ack":
			acknowledge(t, rest, next, acknowledged)
		default:
			t.Errorf("the child printed %s", lines.Text())
		}
	}
	_ = child.Wait() // it was killed
	if kill == nil {
		t.Fatal("the child has not opened the log")
	}
	kill.Stop()
}

func acknowledge(t *testing.T, line string, next []int, acknowledged map[string]string) {
	t.Helper()
	var sender, n int
	var duplicate bool
	var ids [2]string
	if _, err := fmt.Sscan(line, &sender, &n, &duplicate, &ids[0], &ids[1]); err != nil {
		return // a line that the kill truncated
	}
	name := fmt.Sprint(sender, " ", n)
	now := fmt.Sprint(ids)
	if before, known := acknowledged[name]; known && (before != now || !duplicate) {
		t.Errorf("delivery %s got %s, and then %s (duplicate: %v)", name, before, now, duplicate)
	}
	acknowledged[name] = now
	next[sender] = n // the next child sends it again
}

// wantAllOf checks that the log holds all acknowledged deliveries of a sender, in
// order, each once and whole.
func wantAllOf(t *testing.T, h *hub.Hub, sender, last int, acknowledged map[string]string) {
	t.Helper()
	entries, err := read(subscribeAfter(t, h, 0, fmt.Sprint("sender/", sender)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(entries) / 2; n <= last || n > last+2 || len(entries)%2 != 0 {
		t.Errorf("sender %d has %d events in the log, and was acknowledged up to %d", sender, len(entries), last)
	}
	for i := 0; i+1 < len(entries); i += 2 {
		n := i / 2
		name := fmt.Sprint(sender, " ", n)
		if data := dataOf(entries[i : i+2]); data[0] != name || data[1] != name || entries[i+1].Seq != entries[i].Seq+1 {
			t.Fatalf("the events at %d and %d are %q, want %q twice", entries[i].Seq, entries[i+1].Seq, data, name)
		}
		if ids := fmt.Sprint([2]string{entries[i].ID, entries[i+1].ID}); acknowledged[name] != ids && acknowledged[name] != "" {
			t.Errorf("delivery %s has the ids %s in the log, and was acknowledged with %s", name, ids, acknowledged[name])
		}
	}
}
