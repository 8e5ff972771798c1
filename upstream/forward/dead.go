package forward

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// DeadLetter is a delivery that was given up. It holds nothing of the request but
// its path.
type DeadLetter struct {
	// ID names it, for [Forwarder.Retry].
	ID string `json:"id"`
	// Received is when the webhook came, Died when it was given up.
	Received time.Time `json:"received"`
	Died     time.Time `json:"died"`
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Path     string    `json:"path"`
	// Attempts is how many there were since the last restart, Status what the
	// app answered last; zero: it didn't.
	Attempts int    `json:"attempts"`
	Status   int    `json:"status"`
	Reason   string `json:"reason"`
	// Kept tells that the request is still in the history: it can be tried
	// again.
	Kept bool `json:"kept"`
}

// buried is a letter as it is stored.
type buried struct {
	DeadLetter
	Seq  uint64 `json:"seq"`
	Rule string `json:"rule"`
}

func (f *Forwarder) deadTopic() string { return deadTopicPrefix + f.Queue }

// bury gives a delivery up. That it did, and that it is done with, is stored in
// one step.
func (f *Forwarder) bury(p *pending, r *Request, answer Response, result Result, reason string) {
	letter := buried{DeadLetter{
		ID: p.id, Received: p.received, Died: time.Now(), Method: r.Method, Host: string(r.Host), Path: pathOf(r.URI),
		Attempts: p.attempts, Status: answer.Status, Reason: reason,
	}, p.seq, f.Rule}
	data, err := encode(letter)
	if err == nil {
		message := hub.Message{Topics: []string{f.deadTopic()}, Event: event.Event{Data: data}}
		_, err = f.hub.PublishAll([]hub.Message{message}, f.receipt(p.id))
	}
	if err != nil {
		f.postpone(p, err)
		return
	}
	f.Log.Warn("a delivery to the app was given up", zap.String("rule", f.Rule), zap.String("id", p.id),
		zap.Time("received", p.received), zap.Int("attempts", p.attempts), zap.Int("status", answer.Status), zap.String("why", reason))
	f.Count(result)
	f.forget(p)
}

// pathOf leaves out the query, which may hold secrets.
func pathOf(uri []byte) string {
	u, err := url.ParseRequestURI(string(uri))
	if err != nil {
		return ""
	}
	return u.Path
}

// maxLetters is how many are listed: the last of them.
const maxLetters = 1000

// DeadLetters are the deliveries that were given up, and not tried again since, as
// far as the history goes. The oldest is the first.
func (f *Forwarder) DeadLetters() ([]DeadLetter, error) {
	letters, err := f.readLetters()
	if errors.Is(err, hub.ErrLost) { // the oldest have just left the history
		letters, err = f.readLetters()
	}
	return letters, err
}

func (f *Forwarder) readLetters() (letters []DeadLetter, err error) {
	err = f.eachLetter(func(b buried) {
		b.Kept = f.entry(b) != nil
		if letters = append(letters, b.DeadLetter); len(letters) > maxLetters {
			letters = letters[1:]
		}
	})
	return letters, err
}

func (f *Forwarder) eachLetter(each func(buried)) error {
	cursor := f.hub.SubscribeAll([]string{f.deadTopic()})
	defer cursor.Close()
	for {
		entries, err := cursor.Next(batchBytes, nil)
		if err != nil {
			return err
		}
		for _, e := range entries {
			var b buried
			if decodeFrame(e.Frame, &b) != nil {
				continue
			}
			if _, again := f.hub.PublishedBefore(f.again(b.ID)); !again {
				each(b)
			}
		}
		if cursor.Drained() {
			return nil
		}
	}
}

func (f *Forwarder) entry(b buried) *store.Entry {
	if e := f.hub.Entry(b.Seq); e != nil && e.ID == b.ID {
		return e
	}
	return nil
}

// again is the receipt of a letter that is tried again.
func (f *Forwarder) again(id string) hub.IdempotencyKey {
	receipt := f.receipt(id)
	receipt.Scope = "again " + f.Queue
	return receipt
}

// The ways in which a letter can't be tried again.
var (
	ErrNoDeadLetter = errors.New("there is no such dead letter")
	ErrNotKept      = errors.New("the request has left the history")
)

// Retry has a delivery that was given up tried again, for as long as a new one.
func (f *Forwarder) Retry(id string) error {
	var found *buried
	if err := f.eachLetter(func(b buried) {
		if b.ID == id {
			found = &b
		}
	}); err != nil {
		return err
	}
	if found == nil {
		return ErrNoDeadLetter
	}
	e := f.entry(*found)
	if e == nil {
		return ErrNotKept
	}
	r := new(Request)
	if err := decodeFrame(e.Frame, r); err != nil {
		return err
	}
	message, err := Message(f.Queue, r)
	if err != nil {
		return err
	}
	if _, err := f.hub.PublishAll([]hub.Message{message}, f.again(id)); err != nil {
		return fmt.Errorf("storing it: %w", err)
	}
	return nil
}
