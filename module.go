// Package caddysse is a Caddy module that adds live streams (Server-Sent Events)
// to backends that only respond to requests, without changing them.
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

// defaultHub is the hub of rules that name none. It needs no configuration.
const defaultHub = "default"

// App holds the hubs: logs of events on which rules publish and from which
// their streams read (see the handler `http.handlers.sse`). A hub and its events
// outlive configuration reloads if the next configuration has a hub of the same
// name.
type App struct {
	// The hubs by name. A rule that names no hub uses the hub "default", which
	// needs no configuration.
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

// HubConfig configures one hub. A reload can change all options but the store
// while streams are open.
type HubConfig struct {
	// Stores the log: in memory, or in a file that outlives the process. A
	// hub keeps its store as long as it exists: a change takes effect after a
	// restart, or after a configuration without the hub. Default:
	// {"type": "memory"}.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=sse.stores inline_key=type"`

	// Limits how much of the log is kept for clients that reconnect. The oldest
	// events are removed as soon as the log exceeds any of the limits.
	History *History `json:"history,omitempty"`

	// How long a reload may take to move the open streams to the new
	// configuration. Each stream ends at a random time within this period, and
	// its client resumes at its position. Default: 30s; zero means the default.
	Drain caddy.Duration `json:"drain,omitempty"`

	opener      StoreOpener
	storeConfig string // StoreRaw, which Caddy clears
}

// History limits a hub's log.
type History struct {
	// Limits the number of events. Default: 10000; zero means the default.
	MaxEvents int `json:"max_events,omitempty"`

	// How long an event is kept. Default: 24h; zero means the default.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Limits the bytes of memory or disk that the events use. Default:
	// 268435456 (256 MiB); zero means the default.
	MaxBytes int64 `json:"max_bytes,omitempty"`
}

// CaddyModule returns the module's information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse", New: func() caddy.Module { return new(App) }}
}

// Provision acquires the hubs. It has no effect on hubs that are in use: Caddy
// may still reject the configuration.
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
		a.log.Warn("a hub's store can't change while the hub exists: the hub keeps its store until Caddy restarts", zap.String("hub", name))
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

// history returns the configured limits, or their defaults.
func (c *HubConfig) history() store.History {
	return store.History{
		MaxEvents: cmp.Or(c.History.MaxEvents, 10_000),
		MaxAge:    cmp.Or(time.Duration(c.History.MaxAge), 24*time.Hour),
		MaxBytes:  cmp.Or(c.History.MaxBytes, 256<<20),
	}
}

// Start opens the hubs' stores, unless they are open, and makes the
// configuration an owner of the hubs. Its options for a hub take effect when the
// previous configuration, if there is one, stops.
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

// Stop stops the rules' tasks and gives the hubs up. The shutdown of the
// servers has ended or moved the streams by then; see [ruleKind].
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

// Cleanup releases the hubs. A hub that no other configuration has is closed.
func (a *App) Cleanup() error {
	var errs []error
	for name := range a.shared {
		if _, err := hubs.Delete(name); err != nil {
			errs = append(errs, fmt.Errorf("closing hub %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// hub returns the hub of that name.
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
