package caddysse

var multiplexedTotal = counter("multiplexed_urls_total", "URLs that multiplexed streams have asked for, by result.", "result")

// multiplexResult is the result of opening one URL of a multiplexed stream.
type multiplexResult string

const (
	urlOpened   multiplexResult = "opened"
	urlFinished multiplexResult = "finished" // the client has all of its events
	urlRefused  multiplexResult = "refused"
)

var multiplexResults = []multiplexResult{urlOpened, urlFinished, urlRefused}
