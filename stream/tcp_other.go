//go:build !linux

package stream

import "net"

// TCP returns the connection of an HTTP/1.1 request, if a stream can take it over:
// only on Linux. Otherwise it returns nil.
func TCP(net.Conn) Connection { return nil }
