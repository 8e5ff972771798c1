package access

import "net/http"

// FetchBy has key sets come from somewhere else than the network.
func (j *JWT) FetchBy(transport http.RoundTripper) { j.remote.client.Transport = transport }
