//go:build !linux

package main

import (
	"context"
	"errors"
	"time"
)

const vanishingServer, vanishingClient = "vanishing-server", "vanishing-client"

var errNoNamespaces = errors.New("-run vanished needs Linux, for its network namespaces")

func benchVanished(context.Context, *vanishedOptions) error { return errNoNamespaces }
func runVanishingServer(time.Duration) error                { return errNoNamespaces }
func runVanishingClient() error                             { return errNoNamespaces }
