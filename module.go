// Package caddysse is a Caddy module that adds live streams (Server-Sent Events)
// to backends that only respond to requests, without changing them.
package caddysse

import (
	"errors"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"
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

	shared map[string]*sharedHub
	places map[*caddyhttp.Server][]*place // of the rules that are not provisioned yet; see placeOf
	// placeholders are those of the configuration's handlers; see
	// placeholdersOfHandlers.
	placeholders []string
	tasks        []task
	log          *zap.Logger
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
	a.placeholders = nil
	a.places = make(map[*caddyhttp.Server][]*place)
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

// Cleanup releases the hubs. The last configuration of a hub closes it.
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
		return nil, errNoHub(name)
	}
	return shared, nil
}

func errNoHub(name string) error {
	return fmt.Errorf("there is no hub %q: add `sse %s` to the global options", name, name)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
