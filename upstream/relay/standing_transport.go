package relay

import (
	"net"
	"net/http"
	"time"
)

// NewTransport returns the transport of standing feeds. Each request has a connection of
// its own, which ends with it. A host that is gone is noticed within half a minute,
// also if it was silent before. It verifies certificates, and uses the proxy of the
// environment, as net/http does.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{
		Timeout:         10 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		DisableKeepAlives:   true,
		DisableCompression:  true, // a compressed event may wait for the next one
	}
}
