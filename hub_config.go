package caddysse

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/store"
)

// HubConfig configures one hub. A reload can change all options but the store
// while streams are open.
type HubConfig struct {
	// Stores the log: in memory, in a file that outlives the process, or in NATS
	// or Redis, where several Caddys share it. A hub keeps its store as long as it exists: a change takes effect after a
	// restart, or after a configuration without the hub. Default:
	// {"type": "memory"}.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=sse.stores inline_key=type"`

	// Limits the log, which clients that reconnect resume from. The hub removes
	// the oldest events as soon as the log exceeds any of the limits.
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

	// Limits the age of events. Default: 24h; zero means the default.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Limits the bytes of memory or disk that the events use. Default:
	// 268435456 (256 MiB); zero means the default.
	MaxBytes int64 `json:"max_bytes,omitempty"`
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
