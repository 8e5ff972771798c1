//go:build !linux

package main

import (
	"context"
	"errors"
)

// The arguments for the run's other processes, which only Linux has.
const (
	clientsWord = "fanout-clients"
	floorWord   = "fanout-floor"
)

func benchFanout(context.Context, *fanoutOptions) error {
	return errors.New("-run fanout needs Linux: epoll and /proc")
}

func runClients(string) error { return benchFanout(nil, nil) }
func runFloor(string) error   { return benchFanout(nil, nil) }
