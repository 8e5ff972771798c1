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

// The child of TestNothingThatWasAcknowledgedIsLostWhenTheProcessIsKilled: it
// publishes until it is killed.
const childPath = "CADDY_SSE_CRASH_CHILD"

// publishUntilKilled delivers what each sender has to deliver, in its order,
// and says on its output what was acknowledged. Each sender begins where it was
// acknowledged last: it sends that again.
func publishUntilKilled(path string, next []string) int {
	f, err := store.OpenFile(path, store.FileOptions{})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	h := hub.New(f, store.History{})
	h.SetHistory(store.History{}) // as a start does
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
				got, err := h.PublishAll(delivery(sender, n), receiptOf(sender, n))
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

// delivery is of two events, of which one has an id of its own.
func delivery(sender, n int) []hub.Message {
	data := []byte(fmt.Sprint(sender, " ", n))
	topics := []string{fmt.Sprint("sender/", sender), "all"}
	return []hub.Message{
		{Topics: topics, Event: event.Event{ID: fmt.Sprintf("d-%d-%d", sender, n), Data: data}},
		{Topics: topics, Event: event.Event{Data: data}},
	}
}

func receiptOf(sender, n int) hub.IdempotencyKey {
	return hub.IdempotencyKey{Scope: fmt.Sprint(sender), ID: fmt.Sprint(n)}
}

const crashSenders = 8

func TestNothingThatWasAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
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
	h := over(t, f, store.History{})
	for sender, last := range next {
		if last == 0 {
			t.Errorf("sender %d has never been acknowledged", sender)
		}
		wantAllOf(t, h, sender, last, acknowledged)
	}
	t.Logf("%d deliveries were acknowledged, %d kills", len(acknowledged), kills)
}

// runUntilKilled starts the child, kills it at some moment, and takes down what
// it has said.
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
			t.Errorf("the child says %s", lines.Text())
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
		return // cut off by the kill: nobody has heard it
	}
	name := fmt.Sprint(sender, " ", n)
	now := fmt.Sprint(ids)
	if before, known := acknowledged[name]; known && (before != now || !duplicate) {
		t.Errorf("delivery %s was answered with %s, and then with %s (duplicate: %v)", name, before, now, duplicate)
	}
	acknowledged[name] = now
	next[sender] = n // which it sends again after a kill
}

// wantAllOf wants the sender's events in the log: in their order, each once,
// none torn from its delivery, and all that were acknowledged.
func wantAllOf(t *testing.T, h *hub.Hub, sender, last int, acknowledged map[string]string) {
	t.Helper()
	entries, err := read(followAfter(t, h, 0, fmt.Sprint("sender/", sender)))
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
			t.Fatalf("at %d and %d are %q, want %q twice", entries[i].Seq, entries[i+1].Seq, data, name)
		}
		if ids := fmt.Sprint([2]string{entries[i].ID, entries[i+1].ID}); acknowledged[name] != ids && acknowledged[name] != "" {
			t.Errorf("delivery %s is %s in the log, and was acknowledged as %s", name, ids, acknowledged[name])
		}
	}
}
