package caddysse

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	client "github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/redis"
	"github.com/caddy-sse/caddy-sse/store/shared"
)

func init() {
	caddy.RegisterModule(RedisStore{})
}

// RedisStore stores a hub's log in a stream of Redis or Valkey, which several Caddys
// share as they share that of [NATSStore]. Redis may lose acknowledged events in a
// failover; then every client gets a reset.
type RedisStore struct {
	// The addresses of the server, as host:port. Several are those of a Redis
	// Cluster or, with sentinel, of the sentinels. May contain placeholders.
	// Required.
	Addresses []string `json:"addresses,omitempty"`

	// The name of the master that the sentinels watch. Default: the addresses are
	// those of servers.
	Sentinel string `json:"sentinel,omitempty"`

	// The user and the password. Both may contain placeholders. Default: none.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`

	// Sets the names of the two keys: {prefix}:log and {prefix}:head, with the
	// braces. All Caddys that share a hub need the same. Default: sse: and the
	// hub's name.
	Prefix string `json:"prefix,omitempty"`

	// Sets how many replicas must have an event before it is acknowledged. Not
	// with a Redis Cluster. Default: 0, none.
	Wait int `json:"wait,omitempty"`

	// Turns TLS on.
	TLS *StoreTLS `json:"tls,omitempty"`

	// Limits how long a publisher waits for the server, and how long Caddy's
	// start waits for it. Default: 10s; zero means the default.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	log     *zap.Logger
	options client.UniversalOptions
}

// CaddyModule returns the module's information.
func (RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse.stores.redis", New: func() caddy.Module { return new(RedisStore) }}
}

// Provision checks the configuration. It connects to no server.
func (s *RedisStore) Provision(ctx caddy.Context) (err error) {
	s.log = ctx.Logger()
	switch {
	case len(s.Addresses) == 0:
		return errors.New("a Redis store needs an address: write `store redis 127.0.0.1:6379`")
	case s.Wait < 0 || s.Timeout < 0:
		return errors.New("wait and timeout can't be negative")
	case s.Wait > 0 && s.Sentinel == "" && len(s.Addresses) > 1:
		return errors.New("wait works with one server or with sentinel, not with a Redis Cluster")
	}
	replacer := caddy.NewReplacer()
	for _, a := range s.Addresses {
		address, err := replacer.ReplaceOrErr(a, true, true)
		if err != nil {
			return fmt.Errorf("address %q: %w", a, err)
		}
		s.options.Addrs = append(s.options.Addrs, address)
	}
	s.options.MasterName = s.Sentinel
	s.options.Username, s.options.Password = replacer.ReplaceAll(s.User, ""), replacer.ReplaceAll(s.Password, "")
	s.options.TLSConfig, err = s.TLS.config()
	return err
}

// OpenStore implements [StoreOpener].
func (s *RedisStore) OpenStore(hub string) (store.Store, error) {
	o := redis.Options{Client: s.options, Prefix: s.Prefix, Replicas: s.Wait}
	if o.Prefix == "" {
		o.Prefix = "sse:" + hub
	}
	return shared.Open(redis.Open(o), shared.Options{Timeout: time.Duration(s.Timeout), Log: s.log.With(zap.String("hub", hub))}), nil
}

// UnmarshalCaddyfile parses the store of a hub:
//
//	store redis <address>... {
//		sentinel <master>
//		user     <name> <password>
//		password <password>
//		prefix   <prefix>
//		wait     <count>
//		tls {
//			ca   <file>
//			cert <file> <key file>
//		}
//		timeout  <duration>
//	}
func (s *RedisStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // redis
	if s.Addresses = d.RemainingArgs(); len(s.Addresses) == 0 {
		return d.Errf("store redis takes the server's address: write `store redis 127.0.0.1:6379`")
	}
	return parseBlock(d, "store redis", options{
		"sentinel": word(&s.Sentinel),
		"user":     pair(&s.User, &s.Password),
		"password": word(&s.Password),
		"prefix":   word(&s.Prefix),
		"wait":     count(&s.Wait),
		"tls":      parseStoreTLS(&s.TLS),
		"timeout":  duration(&s.Timeout),
	})
}

// Interface guards
var (
	_ StoreOpener           = (*RedisStore)(nil)
	_ caddy.Provisioner     = (*RedisStore)(nil)
	_ caddyfile.Unmarshaler = (*RedisStore)(nil)
)
