package caddysse

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus"
)

// kinds lists all kinds of rules. A new kind needs a line here, a field of
// [Handler] and files of its own.
var kinds = []*kind{&pollKind, &webhookKind, &publishKind, &relayKind, &standingKind, &multiplexKind, &observeKind, &subscribeKind}

// kind declares a kind of rule.
type kind struct {
	// option is the option that makes a rule one of this kind.
	option string
	isSet  func(*Handler) bool

	// parse parses the option in a Caddyfile. It is nil if the option is for
	// JSON only.
	parse func(*Handler, *caddyfile.Dispenser) error

	// name is the default name of the kind's rules.
	name string

	// validate returns an error of a rule's options that doesn't depend on the
	// values of placeholders. It changes nothing. It may be nil.
	validate func(*Handler) error

	// new returns a rule of the kind, which is not yet provisioned.
	new func(*Handler, *rule) ruleKind

	// takes lists the options that rules of the kind may have; see
	// [sharedOptions].
	takes []string

	// refuses says for some of the other options why the kind doesn't take
	// them and what to write instead. For the rest, [sharedOptions] does.
	refuses map[string]string

	// collectors are the kind's metrics.
	collectors []prometheus.Collector
}

// sharedOption is an option of a rule that not every kind takes.
type sharedOption struct {
	name  string
	isSet func(*Handler) bool

	// refusal is the error for rules of kinds that don't take the option.
	refusal string
}

// sharedOptions lists the options of rules, apart from those that select a
// kind and from name and hub, which every kind takes.
var sharedOptions = []sharedOption{
	{"jwt", func(h *Handler) bool { return h.JWT != nil },
		"jwt checks who subscribes to topics: it needs topic"},
	{"allow", func(h *Handler) bool { return len(h.Allow) > 0 },
		"allow limits the topics that a client may choose: it needs topic"},
	{"authorize", func(h *Handler) bool { return h.Authorize != nil },
		"authorize is for rules with topic: leave it out"},
	{"envelope", func(h *Handler) bool { return h.Envelope },
		"envelope says which topic an event is from: it needs topic"},
	{"replay", func(h *Handler) bool { return h.Replay != "" },
		"replay says what new subscribers of topics first get: it needs topic, or belongs in the block of relay"},
	{"cors", func(h *Handler) bool { return len(h.CORS) > 0 }, noStreams},
	{"heartbeat", func(h *Handler) bool { return h.Heartbeat != 0 || h.HeartbeatEvent != "" }, noStreams},
	{"retry", func(h *Handler) bool { return h.Retry != 0 }, noStreams},
	{"max_age", func(h *Handler) bool { return h.MaxAge != 0 }, noStreams},
	{"shutdown_event", func(h *Handler) bool { return h.ShutdownEvent }, noStreams},
	{"encode", func(h *Handler) bool { return len(h.Encode) > 0 }, noStreams},
	{"max_streams", func(h *Handler) bool { return h.MaxStreams != nil },
		"max_streams limits streams, and this rule has none: leave it out"},
}

const noStreams = "this rule has no streams: leave out cors, heartbeat, retry, max_age, shutdown_event and encode"

// streamOptions are the options that every kind with streams takes.
var streamOptions = []string{"cors", "heartbeat", "retry", "max_age", "shutdown_event", "encode", "max_streams"}

// findKind returns the kind of a rule. It fails if the rule has none, has options
// that don't go together, or is not valid. It neither changes the rule nor
// resolves placeholders.
func findKind(h *Handler) (*kind, error) {
	i := slices.IndexFunc(kinds, func(k *kind) bool { return k.isSet(h) })
	if i < 0 {
		return nil, errNoKind()
	}
	k := kinds[i]
	if err := k.check(h, kinds[i+1:]); err != nil {
		return nil, err
	}
	if k.validate == nil {
		return k, nil
	}
	return k, k.validate(h)
}

// errNoKind lists the options that a Caddyfile has for kinds.
func errNoKind() error {
	var names []string
	for _, k := range kinds {
		if k.parse != nil {
			names = append(names, k.option)
		}
	}
	last := len(names) - 1
	return fmt.Errorf("a rule needs %s or %s", strings.Join(names[:last], ", "), names[last])
}

// check finds options of a rule that the kind doesn't take, and those that
// select another kind.
func (k *kind) check(h *Handler, others []*kind) error {
	for _, other := range others {
		if other.isSet(h) {
			return k.refuse(other.option, fmt.Sprintf("%s and %s can't share a rule: write two", k.option, other.option))
		}
	}
	for _, o := range sharedOptions {
		if o.isSet(h) && !slices.Contains(k.takes, o.name) {
			return k.refuse(o.name, o.refusal)
		}
	}
	return nil
}

func (k *kind) refuse(option, otherwise string) error {
	if text := k.refuses[option]; text != "" {
		return errors.New(text)
	}
	return errors.New(otherwise)
}
