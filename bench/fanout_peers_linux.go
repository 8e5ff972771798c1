package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// peers returns other programs that send events to many clients.
func peers() []*server {
	return []*server{nchan(), pushpin(), mercure(), centrifugo()}
}

// configured starts a program with configuration files, which text returns for
// its folder and the address of its streams, by name.
func configured(ctx context.Context, text func(dir, address string) map[string]string, command func(dir string) []string) (*serving, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "caddy-sse-bench")
	if err != nil {
		return nil, err
	}
	for name, content := range text(dir, address) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.TrimSpace(content)+"\n"), 0o600); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	words := command(dir)
	return startProgram(ctx, address, dir, words[0], words[1:]...)
}

// nginxConfig is nginx with nchan: a worker per core, each with its own socket, so
// that the kernel distributes the connections evenly.
const nginxConfig = `
load_module %[1]s;
daemon off;
user %[2]s;
worker_processes %[3]d;
worker_rlimit_nofile 20500;
pid %[4]s/pid;
error_log %[4]s/error.log;
events {
	worker_connections 20000;
}
http {
	access_log off;
	client_body_temp_path %[4]s/body;
	proxy_temp_path %[4]s/proxy;
	fastcgi_temp_path %[4]s/fastcgi;
	uwsgi_temp_path %[4]s/uwsgi;
	scgi_temp_path %[4]s/scgi;
	keepalive_requests 1000000000;
	nchan_shared_memory_size 256m;
	server {
		listen %[5]s reuseport backlog=4096;
		nchan_message_buffer_length 10000;
		nchan_message_timeout 1h;
		nchan_channel_id bench;
		location = /publish {
			nchan_publisher http;
		}
		location = /events {
			nchan_subscriber eventsource;
			nchan_subscriber_first_message newest;
			nchan_eventsource_ping_interval 15;
		}
	}
}
`

func nchan() *server {
	s := &server{name: "nchan", note: fmt.Sprintf("nginx with `worker_processes %d`, `reuseport`, `nchan_message_buffer_length 10000`, a ping every 15 s, no access log", runtime.NumCPU())}
	nginx, module := findProgram("nginx"), ""
	for _, folder := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules"} {
		path := filepath.Join(folder, "ngx_nchan_module.so")
		if _, err := os.Stat(path); err == nil {
			module = path
		}
	}
	if nginx == "" || module == "" {
		s.missing = "nginx or its module is not installed: apt-get install libnginx-mod-nchan"
		return s
	}
	s.start = func(ctx context.Context) (*serving, error) {
		me, err := user.Current()
		if err != nil {
			return nil, err
		}
		n, err := configured(ctx, func(dir, address string) map[string]string {
			return map[string]string{"nginx.conf": fmt.Sprintf(nginxConfig, module, me.Username, runtime.NumCPU(), dir, address)}
		}, func(dir string) []string {
			return []string{nginx, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir, "-e", filepath.Join(dir, "error.log")}
		})
		if err != nil {
			return nil, err
		}
		n.target = "/events"
		n.publish = func(data string) publishRequest { return newPublishRequest(n.http, "/publish", data) }
		return n, nil
	}
	return s
}

const pushpinConfig = `
[global]
include=%[1]s/internal.conf
rundir=%[1]s
ipc_prefix=bench-
[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=%[2]s
logdir=%[1]s
log_level=1
client_maxconn=20000
[proxy]
routesfile=%[1]s/routes
[handler]
push_in_http_addr=127.0.0.1
push_in_http_port=%[3]d
push_in_spec=ipc://%[1]s/push
push_in_sub_specs=ipc://%[1]s/push-sub
command_spec=ipc://%[1]s/command
stats_spec=ipc://%[1]s/stats
message_rate=1000000000
message_hwm=1000000000
`

// pushpinInternal is the part of Pushpin's configuration that a package has to
// provide.
const pushpinInternal = "/usr/lib/pushpin/internal.conf"

func pushpin() *server {
	s := &server{name: "pushpin", note: "condure, zurl, proxy and handler; without a history, without a limit of messages per second; it closes the publisher's connection after each event"}
	program := findProgram("pushpin")
	internal, err := os.ReadFile(pushpinInternal)
	if program == "" || err != nil {
		s.missing = "it is not installed: apt-get install pushpin"
		return s
	}
	// Debian runs zurl as a service of its own. Here Pushpin starts it.
	text := strings.NewReplacer("/var/run/zurl/", "{rundir}/{ipc_prefix}", "{libdir}", filepath.Dir(pushpinInternal)).Replace(string(internal))
	s.start = func(ctx context.Context) (*serving, error) {
		publish, err := freePort()
		if err != nil {
			return nil, err
		}
		app, err := startPushpinBackend()
		if err != nil {
			return nil, err
		}
		p, err := configured(ctx, func(dir, address string) map[string]string {
			return map[string]string{
				"internal.conf": text, "routes": "* " + app.Addr,
				"pushpin.conf": fmt.Sprintf(pushpinConfig, dir, address, publish),
			}
		}, func(dir string) []string { return []string{program, "--config=" + filepath.Join(dir, "pushpin.conf")} })
		if err != nil {
			return nil, errors.Join(err, app.Close())
		}
		stop := p.stop
		p.stop = func() error { return errors.Join(stop(), app.Close()) }
		p.target = "/events"
		p.publish = func(data string) publishRequest {
			body := fmt.Sprintf(`{"items":[{"channel":"bench","formats":{"http-stream":{"content":%q}}}]}`, "data: "+data+"\n\n")
			return newPublishRequest(fmt.Sprintf("127.0.0.1:%d", publish), "/publish/", body, "Content-Type", "application/json")
		}
		return p, pause(ctx, time.Second) // its processes find each other
	}
	return s
}

// startPushpinBackend starts the backend that tells Pushpin to hold streams.
func startPushpinBackend() (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	app := &http.Server{Addr: l.Addr().String(), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Grip-Hold", "stream")
		w.Header().Set("Grip-Channel", "bench")
		w.Header().Set("Grip-Keep-Alive", `retry: 3000\n; format=cstring; timeout=15`)
	})}
	go func() { _ = app.Serve(l) }()
	return app, nil
}

const mercureConfig = `
{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s
	log {
		output discard
	}
}
http://%[2]s {
	bind 127.0.0.1
	mercure {
		transport local
		publisher_jwt %[3]s
		anonymous
		heartbeat 15s
	}
}
`

// mercure is Mercure's module in a Caddy whose path is in the environment.
func mercure() *server {
	s := &server{name: "mercure", note: "Mercure's Caddy module, `transport local`, which has no history, a heartbeat every 15 s"}
	program := os.Getenv("MERCURE")
	if program == "" {
		s.missing = "set MERCURE to the path of a Caddy with the module github.com/dunglas/mercure/caddy"
		return s
	}
	s.start = func(ctx context.Context) (*serving, error) {
		key := strings.Repeat("a key of this run ", 4)
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"mercure": map[string]any{"publish": []string{"*"}}}).SignedString([]byte(key))
		if err != nil {
			return nil, err
		}
		m, err := configured(ctx, func(dir, address string) map[string]string {
			return map[string]string{"Caddyfile": fmt.Sprintf(mercureConfig, dir, address, "`"+key+"`")}
		}, func(dir string) []string {
			return []string{program, "run", "--adapter", "caddyfile", "--config", filepath.Join(dir, "Caddyfile")}
		})
		if err != nil {
			return nil, err
		}
		m.target = "/.well-known/mercure?topic=bench"
		m.publish = func(data string) publishRequest {
			return newPublishRequest(m.http, "/.well-known/mercure", formWithMark("topic=bench&data=", data),
				"Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer "+token)
		}
		return m, nil
	}
	return s
}

const centrifugoConfig = `
{
	"http_server": {"address": "127.0.0.1", "port": %s},
	"http_api": {"insecure": true},
	"client": {"insecure": true, "allow_anonymous_connect_without_token": true, "ping_interval": "15s", "pong_timeout": "10s"},
	"uni_sse": {"enabled": true},
	"channel": {"without_namespace": {
		"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
		"history_size": 10000, "history_ttl": "1h"
	}},
	"log": {"level": "error"}
}
`

func centrifugo() *server {
	s := &server{name: "centrifugo", note: "`uni_sse`, `history_size` 10000, in memory, a ping every 15 s"}
	program := os.Getenv("CENTRIFUGO")
	if program == "" {
		s.missing = "set CENTRIFUGO to its path: go install github.com/centrifugal/centrifugo/v6@v6.9.1"
		return s
	}
	s.start = func(ctx context.Context) (*serving, error) {
		c, err := configured(ctx, func(_, address string) map[string]string {
			return map[string]string{"config.json": fmt.Sprintf(centrifugoConfig, address[strings.LastIndexByte(address, ':')+1:])}
		}, func(dir string) []string { return []string{program, "--config", filepath.Join(dir, "config.json")} })
		if err != nil {
			return nil, err
		}
		c.target = `/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22bench%22%3A%7B%7D%7D%7D`
		c.publish = func(data string) publishRequest {
			return newPublishRequest(c.http, "/api/publish", `{"channel":"bench","data":`+data+`}`, "Content-Type", "application/json")
		}
		return c, nil
	}
	return s
}
