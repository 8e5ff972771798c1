package poll

import (
	"context"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// ReadDocument reads a document by a configuration without options.
func ReadDocument(resp *subrequest.Response) error {
	_, _, err := new(Config).read(context.Background(), resp, nil)
	return err
}
