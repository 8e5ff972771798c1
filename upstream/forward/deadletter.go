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

// DeadLetter is a delivery that the forwarder has given up. Of the request it
// holds only the method, the host and the path.
type DeadLetter struct {
	// ID identifies the delivery, for [Forwarder.Retry].
	ID string `json:"id"`
	// Received is when the webhook came, and GivenUp when the forwarder gave it up.
	Received time.Time `json:"received"`
	GivenUp  time.Time `json:"died"`
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Path     string    `json:"path"`
	// Attempts is the number of attempts since the last restart. Status is the
	// status of the last response, or zero if there was none.
	Attempts int    `json:"attempts"`
	Status   int    `json:"status"`
	Reason   string `json:"reason"`
	// Kept means that the request is still in the history: it can be retried.
	Kept bool `json:"kept"`
}

// storedLetter is a dead letter as the log stores it. Seq is the position of the
// request.
type storedLetter struct {
	DeadLetter
	Seq  uint64 `json:"seq"`
	Rule string `json:"rule"`
}

func (f *Forwarder) deadLetterTopic() string { return deadTopicPrefix + f.Queue }

// deadLetter gives a delivery up. It stores the dead letter and the end of the
// delivery in one step.
func (f *Forwarder) deadLetter(p *pending, r *Request, response Response, result Result, reason string) {
	letter := storedLetter{DeadLetter{
		ID: p.id, Received: p.received, GivenUp: time.Now(), Method: r.Method, Host: string(r.Host), Path: pathOf(r.URI),
		Attempts: p.attempts, Status: response.Status, Reason: reason,
	}, p.seq, f.Rule}
	data, err := encode(letter)
	if err == nil {
		message := hub.Message{Topics: []string{f.deadLetterTopic()}, Event: event.Event{Data: data}}
		_, err = f.hub.PublishAll([]hub.Message{message}, f.doneKey(p.id))
	}
	if err != nil {
		f.postpone(p, err)
		return
	}
	f.Log.Warn("the forwarder has given up a delivery to the app", zap.String("rule", f.Rule), zap.String("id", p.id),
		zap.Time("received", p.received), zap.Int("attempts", p.attempts), zap.Int("status", response.Status), zap.String("why", reason))
	f.Count(result)
	f.forget(p)
}

// pathOf returns the path without the query, which may hold secrets.
func pathOf(uri []byte) string {
	u, err := url.ParseRequestURI(string(uri))
	if err != nil {
		return ""
	}
	return u.Path
}

// maxLetters limits the list of dead letters to the last ones.
const maxLetters = 1000

// DeadLetters returns the deliveries that the forwarder has given up and not
// retried since, oldest first. It returns at most the last 1000 in the history.
func (f *Forwarder) DeadLetters() ([]DeadLetter, error) {
	letters, err := f.readDeadLetters()
	if errors.Is(err, hub.ErrLost) { // the oldest have just left the history
		letters, err = f.readDeadLetters()
	}
	return letters, err
}

func (f *Forwarder) readDeadLetters() (letters []DeadLetter, err error) {
	err = f.eachDeadLetter(func(l storedLetter) {
		l.Kept = f.entry(l) != nil
		if letters = append(letters, l.DeadLetter); len(letters) > maxLetters {
			letters = letters[1:]
		}
	})
	return letters, err
}

func (f *Forwarder) eachDeadLetter(each func(storedLetter)) error {
	cursor := f.hub.SubscribeAll([]string{f.deadLetterTopic()})
	defer cursor.Close()
	for {
		entries, err := cursor.Next(batchBytes, nil)
		if err != nil {
			return err
		}
		for _, e := range entries {
			var l storedLetter
			if decodeFrame(e.Frame, &l) != nil {
				continue
			}
			if _, retried := f.hub.PublishedBefore(f.retryKey(l.ID)); !retried {
				each(l)
			}
		}
		if cursor.CaughtUp() {
			return nil
		}
	}
}

// entry returns the request of a dead letter, or nil if it has left the history.
func (f *Forwarder) entry(l storedLetter) *store.Entry {
	if e := f.hub.Entry(l.Seq); e != nil && e.ID == l.ID {
		return e
	}
	return nil
}

// retryKey is the idempotency key of the retry record: it marks a dead letter as
// retried.
func (f *Forwarder) retryKey(id string) hub.IdempotencyKey {
	key := f.doneKey(id)
	key.Scope = "again " + f.Queue
	return key
}

// Errors of [Forwarder.Retry].
var (
	// ErrNoDeadLetter means that there is no dead letter with this ID.
	ErrNoDeadLetter = errors.New("there is no such dead letter")
	// ErrNotInHistory means that the history doesn't have the request any more.
	ErrNotInHistory = errors.New("the request has left the history")
)

// Retry queues a dead letter as a new delivery. It returns [ErrNoDeadLetter] or
// [ErrNotInHistory] if it can't.
func (f *Forwarder) Retry(id string) error {
	var found *storedLetter
	if err := f.eachDeadLetter(func(l storedLetter) {
		if l.ID == id {
			found = &l
		}
	}); err != nil {
		return err
	}
	if found == nil {
		return ErrNoDeadLetter
	}
	e := f.entry(*found)
	if e == nil {
		return ErrNotInHistory
	}
	r := new(Request)
	if err := decodeFrame(e.Frame, r); err != nil {
		return err
	}
	message, err := Message(f.Queue, r)
	if err != nil {
		return err
	}
	if _, err := f.hub.PublishAll([]hub.Message{message}, f.retryKey(id)); err != nil {
		return fmt.Errorf("storing it: %w", err)
	}
	return nil
}
