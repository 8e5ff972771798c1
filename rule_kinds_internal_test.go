package caddysse

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// optionNames returns the names of the options that select a kind, and of those
// that kinds share.
func optionNames() (selecting, shared []string) {
	for _, k := range kinds {
		selecting = append(selecting, k.option)
	}
	for _, o := range sharedOptions {
		shared = append(shared, o.name)
	}
	return selecting, shared
}

func TestEveryFieldOfHandlerIsAnOption(t *testing.T) {
	selecting, shared := optionNames()
	known := slices.Concat(selecting, shared, []string{"name", "hub", "heartbeat_event", "replay_last"}) // of heartbeat and replay
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Handler]()) {
		tag, ok := field.Tag.Lookup("json")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		switch name { // otherwise in a Caddyfile
		case "topics":
			name = "topic"
		case "feeds":
			name = "relay"
		}
		if !slices.Contains(known, name) {
			t.Errorf("%s is missing in kinds or sharedOptions", name)
		}
	}
}

func TestKindsNameOnlyExistingOptions(t *testing.T) {
	selecting, shared := optionNames()
	for _, k := range kinds {
		for _, name := range k.takes {
			if !slices.Contains(shared, name) {
				t.Errorf("%s takes %s, which is no shared option", k.option, name)
			}
		}
		for name := range maps.Keys(k.refuses) {
			if !slices.Contains(slices.Concat(selecting, shared), name) || slices.Contains(k.takes, name) {
				t.Errorf("%s refuses %s, which doesn't exist or which it takes", k.option, name)
			}
		}
	}
}
