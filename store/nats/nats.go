// Package nats keeps a hub's log in a stream of NATS JetStream.
package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store/shared"
)

// Options configure an engine.
type Options struct {
	// Servers are the URLs of the servers, such as nats://127.0.0.1:4222.
	Servers []string
	// Stream is the name of the stream. The engine makes it if it is missing.
	// Its subject is "sse." and the name.
	Stream string
	// Replicas is how many servers keep a stream that the engine makes. Default:
	// 3 in a cluster, otherwise 1.
	Replicas int
	// Client are further options of the connection, such as credentials.
	Client []nats.Option
	Log    *zap.Logger
}

// Engine is a [shared.Engine] whose log is a stream. It connects in the background,
// as long as that takes.
type Engine struct {
	options Options
	subject string
	conn    *nats.Conn
	js      jetstream.JetStream

	warned atomic.Bool // about a single server
}

var _ shared.Engine = (*Engine)(nil)

// marker is the key of the stream's metadata that says that it is a hub's log.
const marker = "caddy-sse-log"

// Open returns an engine. It fails if the options are wrong, not if no server can be
// reached.
func Open(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	client := nats.GetDefaultOptions()
	client.Servers = o.Servers
	client.Name = "caddy-sse"
	client.RetryOnFailedConnect = true
	client.MaxReconnect = -1
	client.ReconnectWait = 250 * time.Millisecond
	client.ReconnectBufSize = -1 // appends fail while there is no connection
	client.PingInterval = 5 * time.Second
	client.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) {
		o.Log.Debug("NATS reports an error", zap.Error(err))
	}
	for _, set := range o.Client {
		if err := set(&client); err != nil {
			return nil, err
		}
	}
	conn, err := client.Connect()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &Engine{options: o, subject: "sse." + o.Stream, conn: conn, js: js}, nil
}

// Append implements [shared.Engine].
func (e *Engine) Append(ctx context.Context, message []byte) error {
	_, err := e.js.Publish(ctx, e.subject, message, jetstream.WithExpectStream(e.options.Stream))
	if errors.Is(err, jetstream.ErrNoStreamResponse) { // there is none, or no leader
		if _, err = e.stream(ctx); err == nil {
			_, err = e.js.Publish(ctx, e.subject, message, jetstream.WithExpectStream(e.options.Stream))
		}
	}
	return err
}

// Head implements [shared.Engine]. The stream's leader answers.
func (e *Engine) Head(ctx context.Context) (uint64, error) {
	s, err := e.stream(ctx)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Drop implements [shared.Engine].
func (e *Engine) Drop(ctx context.Context, upTo uint64) error {
	s, err := e.stream(ctx)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSequence(upTo+1))
}

// stream returns the stream, which it makes if it is missing.
func (e *Engine) stream(ctx context.Context) (jetstream.Stream, error) {
	s, err := e.js.Stream(ctx, e.options.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = e.create(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", e.options.Stream, err)
	}
	if s.CachedInfo().Config.Metadata[marker] == "" {
		return nil, fmt.Errorf("the stream %s is not one of caddy-sse's: name another", e.options.Stream)
	}
	return s, nil
}

// noCluster is the error code of a single server that is asked for replicas.
const noCluster jetstream.ErrorCode = 10074

func (e *Engine) create(ctx context.Context) (jetstream.Stream, error) {
	config := jetstream.StreamConfig{
		Name:       e.options.Stream,
		Subjects:   []string{e.subject},
		Storage:    jetstream.FileStorage,
		Replicas:   cmp.Or(e.options.Replicas, 3),
		Duplicates: 100 * time.Millisecond, // the log finds duplicates itself
		DenyDelete: true,
		Metadata:   map[string]string{marker: "1"},
	}
	s, err := e.js.CreateStream(ctx, config)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == noCluster && e.options.Replicas == 0 {
		if !e.warned.Swap(true) {
			e.options.Log.Warn("the NATS server is in no cluster: if it fails, publishing fails")
		}
		config.Replicas = 1
		s, err = e.js.CreateStream(ctx, config)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was first
		return e.js.Stream(ctx, e.options.Stream)
	}
	return s, err
}

// Read implements [shared.Engine].
func (e *Engine) Read(ctx context.Context, after uint64, f func(uint64, []byte) error) error {
	if _, err := e.stream(ctx); err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{InactiveThreshold: 30 * time.Second}
	if after > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := e.js.OrderedConsumer(ctx, e.options.Stream, config)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	end := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	failed := false // only the consumer's goroutine uses it
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if failed {
			return
		}
		about, err := m.Metadata()
		if err == nil {
			err = f(about.Sequence.Stream, m.Data())
		}
		if failed = err != nil; failed {
			end(err)
		}
	}, jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second))
	if err != nil {
		return err
	}
	defer func() {
		consuming.Stop()
		<-consuming.Closed()
	}()
	select {
	case err := <-ended:
		return err
	case <-consuming.Closed():
		return errors.New("the consumer has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// MaxMessage implements [shared.Engine]. Half of what the server allows leaves room
// for headers.
func (e *Engine) MaxMessage() int {
	if n := e.conn.MaxPayload(); n > 0 {
		return int(n / 2)
	}
	return 512 << 10
}

// Close implements [shared.Engine].
func (e *Engine) Close() error {
	e.conn.Close()
	return nil
}
