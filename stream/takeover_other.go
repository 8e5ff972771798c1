//go:build !linux

package stream

import (
	"net"
	"net/http"
)

// CanTakeOver reports whether streams can take over connections: only on Linux.
func CanTakeOver(net.Conn) bool { return false }

func (s *Stream) takeOver(*response, *http.Request, net.Conn, func(Summary), func()) bool {
	return false
}
