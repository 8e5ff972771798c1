package caddysse

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	client "github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/nats"
	"github.com/caddy-sse/caddy-sse/store/shared"
)

func init() {
	caddy.RegisterModule(NATSStore{})
}

// NATSStore stores a hub's log in a stream of NATS JetStream, which several Caddys
// share: what one publishes reaches the clients of all, and clients can resume at
// any. Each Caddy keeps a copy of the log in memory.
type NATSStore struct {
	// The URLs of the NATS servers, such as nats://127.0.0.1:4222. May contain
	// placeholders. Required.
	Servers []string `json:"servers,omitempty"`

	// Sets the name of the stream. Its subject is "sse." and the name. All Caddys
	// that share a hub need the same. The module makes the stream if it is
	// missing. Default: SSE_ and the hub's name; = and two hexadecimal digits
	// replace each byte other than a-z, A-Z, 0-9, - and _.
	Stream string `json:"stream,omitempty"`

	// Sets how many servers keep a stream that the module makes: 1 to 5. Default:
	// 3 if the server is in a cluster, otherwise 1.
	Replicas int `json:"replicas,omitempty"`

	// The path of a file with the user's credentials (JWT and key). At most one
	// of credentials, nkey, user and token may be set.
	Credentials string `json:"credentials,omitempty"`

	// The path of a file with the seed of the user's NKey.
	NKey string `json:"nkey,omitempty"`

	// The user and the password. May contain placeholders.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`

	// The token. May contain placeholders.
	Token string `json:"token,omitempty"`

	// Configures TLS, which also URLs that begin with tls:// turn on.
	TLS *StoreTLS `json:"tls,omitempty"`

	// Limits how long a publisher waits for the servers, and how long Caddy's
	// start waits for them. Default: 10s; zero means the default.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	log     *zap.Logger
	options nats.Options
}

// CaddyModule returns the module's information.
func (NATSStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sse.stores.nats", New: func() caddy.Module { return new(NATSStore) }}
}

// Provision checks the configuration. It connects to no server.
func (s *NATSStore) Provision(ctx caddy.Context) error {
	s.log = ctx.Logger()
	switch {
	case len(s.Servers) == 0:
		return errors.New("a NATS store needs a server: write `store nats nats://127.0.0.1:4222`")
	case s.Replicas < 0 || s.Replicas > 5:
		return fmt.Errorf("replicas %d: want 1 to 5", s.Replicas)
	case s.Timeout < 0:
		return errors.New("timeout can't be negative")
	case strings.ContainsAny(s.Stream, " \t\r\n.*>/\\"):
		return fmt.Errorf("stream %q: the name can't contain spaces, slashes, '.', '*' and '>'", s.Stream)
	}
	replacer := caddy.NewReplacer()
	for _, server := range s.Servers {
		url, err := replacer.ReplaceOrErr(server, true, true)
		if err != nil {
			return fmt.Errorf("server %q: %w", server, err)
		}
		s.options.Servers = append(s.options.Servers, url)
	}
	return s.provisionClient(replacer)
}

// provisionClient sets the credentials and TLS.
func (s *NATSStore) provisionClient(replacer *caddy.Replacer) error {
	known := 0
	for _, v := range []string{s.Credentials, s.NKey, s.User, s.Token} {
		if v != "" {
			known++
		}
	}
	if known > 1 {
		return errors.New("a NATS store takes one of creds, nkey, user and token")
	}
	var add []client.Option
	switch {
	case s.Credentials != "":
		add = append(add, client.UserCredentials(s.Credentials))
	case s.NKey != "":
		o, err := client.NkeyOptionFromSeed(s.NKey)
		if err != nil {
			return fmt.Errorf("nkey: %w", err)
		}
		add = append(add, o)
	case s.User != "":
		add = append(add, client.UserInfo(replacer.ReplaceAll(s.User, ""), replacer.ReplaceAll(s.Password, "")))
	case s.Token != "":
		add = append(add, client.Token(replacer.ReplaceAll(s.Token, "")))
	}
	config, err := s.TLS.config()
	if config != nil {
		add = append(add, client.Secure(config))
	}
	s.options.Client = add
	return err
}

// OpenStore implements [StoreOpener].
func (s *NATSStore) OpenStore(hub string) (store.Store, error) {
	o := s.options
	o.Stream, o.Replicas, o.Log = s.Stream, s.Replicas, s.log
	if o.Stream == "" {
		o.Stream = streamName(hub)
	}
	e, err := nats.Open(o)
	if err != nil {
		return nil, err
	}
	return shared.Open(e, shared.Options{Timeout: time.Duration(s.Timeout), Log: s.log.With(zap.String("hub", hub))}), nil
}

// streamName returns the default name of a hub's stream. It differs for each hub.
func streamName(hub string) string {
	b := []byte("SSE_")
	for i := range len(hub) {
		switch c := hub[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b = append(b, c)
		default:
			b = fmt.Appendf(b, "=%02X", c)
		}
	}
	return string(b)
}

// UnmarshalCaddyfile parses the store of a hub:
//
//	store nats <url>... {
//		stream   <name>
//		replicas <count>
//		creds <file> | nkey <file> | user <name> <password> | token <token>
//		tls {
//			ca   <file>
//			cert <file> <key file>
//		}
//		timeout  <duration>
//	}
func (s *NATSStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // nats
	if s.Servers = d.RemainingArgs(); len(s.Servers) == 0 {
		return d.Errf("store nats takes the servers' URLs: write `store nats nats://127.0.0.1:4222`")
	}
	return parseBlock(d, "store nats", options{
		"stream":   word(&s.Stream),
		"replicas": count(&s.Replicas),
		"creds":    word(&s.Credentials),
		"nkey":     word(&s.NKey),
		"user":     pair(&s.User, &s.Password),
		"token":    word(&s.Token),
		"tls":      parseStoreTLS(&s.TLS),
		"timeout":  duration(&s.Timeout),
	})
}

// Interface guards
var (
	_ StoreOpener           = (*NATSStore)(nil)
	_ caddy.Provisioner     = (*NATSStore)(nil)
	_ caddyfile.Unmarshaler = (*NATSStore)(nil)
)
