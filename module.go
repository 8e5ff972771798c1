// Package caddysse is a Caddy module that gives backends which only answer
// requests live streams (Server-Sent Events), without a change to them.
package caddysse

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store"
)

func init() {
	caddy.RegisterModule(App{})
}

// defaultHub is the hub of rules that name none. It need not be configured.
const defaultHub = "default"

// App holds the hubs: logs of events that the rules (see the handler
// `http.handlers.sse`) publish on and read from. Hubs, with all that is in
// them, are kept across configuration reloads by their names.
type App struct {
	// The hubs by name. A rule that names no hub uses "default", which needs
	// no configuration.
	Hubs map[string]*HubConfig `json:"hubs,omitempty"`

	shared   map[string]*sharedHub
	ordinals map[string]int // see ordinal
	tasks    []task
	log      *zap.Logger
}

// task is the work that a rule does in the background while the configuration
// is in force.
type task interface {
	// start is called when all apps have started, so that handlers can be
	// called.
	start()
	// stop returns when the work has ended.
	stop()
}

// HubConfig configures one hub. All but the store can be changed by a reload
// while streams are open.
type HubConfig struct {
	// Where the log lives: in memory, or in a file that outlives the process.
	// It is the hub's for as long as the hub lives: another one takes effect
	// when no configuration has had the hub in between. Default:
	// {"type": "memory"}.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=sse.stores inline_key=type"`

	// How much of the log is kept for clients that come back. The oldest
	// events go as soon as any of the bounds is passed.
	History *History `json:"history,omitempty"`

	// How long a reload may take to move the open streams to the new
	// configuration: each is ended at a random moment within it, and its
	// client resumes where it was. Default, and what zero means: 30s.
	Drain caddy.Duration `json:"drain,omitempty"`

	opener      StoreOpener
	storeConfig string // StoreRaw, which Caddy takes away
}

// History bounds a hub's log.
type History struct {
	// How many events are kept. Default, and what zero means: 10000.
	MaxEvents int `json:"max_events,omitempty"`

	// How long an event is kept. Default, and what zero means: 24h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// How many bytes of memory or disk the events may take. Default, and what
	// zero means: 268435456 (256 MiB).
	MaxBytes int64 `json:"max_bytes,omitempty"`
}

// CaddyModule returns the module's information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse", New: func() caddy.Module { return new(App) }}
}

// Provision takes hold of the hubs. It has no effect on hubs that are in use:
// the configuration may still be rejected.
func (a *App) Provision(ctx caddy.Context) error {
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	a.log = ctx.Logger()
	a.shared = make(map[string]*sharedHub)
	a.ordinals = make(map[string]int)
	if a.Hubs == nil {
		a.Hubs = make(map[string]*HubConfig)
	}
	if a.Hubs[defaultHub] == nil {
		a.Hubs[defaultHub] = new(HubConfig)
	}
	for name, config := range a.Hubs {
		if config == nil {
			config = new(HubConfig)
			a.Hubs[name] = config
		}
		if err := a.provisionHub(ctx, name, config); err != nil {
			return fmt.Errorf("hub %s: %w", name, err)
		}
	}
	return onStarted(ctx, func() { a.start(ctx) })
}

// start starts the work in the background.
func (a *App) start(ctx caddy.Context) {
	unclaimed := newUnclaimedForwarding(a)
	if app, err := ctx.AppIfConfigured("http"); err == nil {
		unclaimed.http = app.(*caddyhttp.App)
	}
	a.tasks = append(a.tasks, unclaimed)
	for _, t := range a.tasks {
		t.start()
	}
}

// onStarted calls f when the configuration is in force.
func onStarted(ctx caddy.Context, f func()) error {
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("started", eventHandler(f))
}

// eventHandler adapts a function to [caddyevents.Handler].
type eventHandler func()

// Handle implements [caddyevents.Handler].
func (f eventHandler) Handle(context.Context, caddy.Event) error {
	f()
	return nil
}

func (eventHandler) String() string { return "sse" }

func (a *App) provisionHub(ctx caddy.Context, name string, config *HubConfig) error {
	if err := config.provision(ctx); err != nil {
		return err
	}
	value, _, err := hubs.LoadOrNew(name, func() (caddy.Destructor, error) {
		log := store.NewLazy(func() (store.Store, error) {
			opened, err := config.opener.OpenStore(name)
			if err != nil {
				return nil, err
			}
			return withMetrics(name, opened), nil
		})
		return newSharedHub(log, config.storeConfig, config.history()), nil
	})
	if err != nil {
		return err
	}
	shared := value.(*sharedHub)
	if shared.storeConfig != config.storeConfig {
		a.log.Warn("a hub's store can't be changed while the hub lives: it stays where it is until Caddy is restarted", zap.String("hub", name))
	}
	a.shared[name] = shared
	return nil
}

func (c *HubConfig) provision(ctx caddy.Context) error {
	if c.History == nil {
		c.History = new(History)
	}
	if c.History.MaxEvents < 0 || c.History.MaxAge < 0 || c.History.MaxBytes < 0 || c.Drain < 0 {
		return fmt.Errorf("history and drain can't be negative")
	}
	c.Drain = cmp.Or(c.Drain, caddy.Duration(30*time.Second))
	if c.StoreRaw == nil {
		c.StoreRaw = json.RawMessage(`{"type":"memory"}`)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, c.StoreRaw); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	c.storeConfig = compact.String()
	module, err := ctx.LoadModule(c, "StoreRaw")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	c.opener = module.(StoreOpener)
	return nil
}

// history is the configured bounds with their defaults.
func (c *HubConfig) history() store.History {
	return store.History{
		MaxEvents: cmp.Or(c.History.MaxEvents, 10_000),
		MaxAge:    cmp.Or(time.Duration(c.History.MaxAge), 24*time.Hour),
		MaxBytes:  cmp.Or(c.History.MaxBytes, 256<<20),
	}
}

// Start opens the hubs' stores, if they aren't yet, and makes the configuration
// one that has the hubs: what it says of them is applied in place when the
// configuration before, if there is one, stops.
func (a *App) Start() error {
	for name, shared := range a.shared {
		if err := shared.log.Open(); err != nil {
			return fmt.Errorf("hub %s: %w", name, err)
		}
	}
	for name, shared := range a.shared {
		shared.adopt(a, a.Hubs[name])
	}
	return nil
}

// Stop gives the hubs back to the configuration before, if this one is rolled
// back, or to nobody. The streams have been told by the servers' shutdown.
func (a *App) Stop() error {
	var stopping sync.WaitGroup
	for _, t := range a.tasks {
		stopping.Go(t.stop)
	}
	stopping.Wait()
	for _, shared := range a.shared {
		shared.disown(a)
	}
	return nil
}

// Cleanup lets go of the hubs.
func (a *App) Cleanup() error {
	var errs []error
	for name := range a.shared {
		if _, err := hubs.Delete(name); err != nil {
			errs = append(errs, fmt.Errorf("closing hub %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// hub returns what a rule needs of the hub of that name.
func (a *App) hub(name string) (*sharedHub, error) {
	shared := a.shared[name]
	if shared == nil {
		return nil, fmt.Errorf("there is no hub %q: add `sse %s` to the global options", name, name)
	}
	return shared, nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
