package main

import "crypto/tls"

// insecure is for clients: the certificate is nobody's.
var insecure = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it protects nothing
