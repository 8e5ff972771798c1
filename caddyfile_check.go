package caddysse

import (
	"cmp"
	"reflect"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseChecked parses a block like parseBlock and then checks the configuration
// that the options have been parsed into. An error of the check names the line of
// the option that causes it.
//
// The check must not change the configuration, nor resolve placeholders: a
// Caddyfile may be adapted where its environment variables are not set.
func parseChecked[T any](d *caddyfile.Dispenser, name string, config *T, known options, check func(*T) error) error {
	block := *d // on the line that opens the block
	var parsed []parsedOption
	recorded := make(options, len(known))
	for option, parse := range known {
		recorded[option] = func(d *caddyfile.Dispenser) error {
			at, before := *d, *config
			if err := parse(d); err != nil {
				return err
			}
			parsed = append(parsed, parsedOption{&at, changedFields(&before, config)})
			return nil
		}
	}
	if err := parseBlock(d, name, recorded); err != nil {
		return err
	}
	err := check(config)
	if err == nil {
		return nil
	}
	if at := findCause(config, parsed, check, err); at != nil {
		return at.WrapErr(err)
	}
	return block.WrapErr(err)
}

// parsedOption is an option of a block and the fields that it has set.
type parsedOption struct {
	at     *caddyfile.Dispenser // on the option's word
	fields []int
}

// changedFields returns the indexes of the exported fields that differ.
func changedFields[T any](before, after *T) (fields []int) {
	old, updated := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	for i := range old.NumField() {
		if old.Type().Field(i).IsExported() && !reflect.DeepEqual(old.Field(i).Interface(), updated.Field(i).Interface()) {
			fields = append(fields, i)
		}
	}
	return fields
}

// findCause returns where the option stands that causes an error of the check. It
// is the last option without which the configuration is valid or, if there is
// none, the last one without which the check returns another error. It returns
// nil if no option matters, as when one is missing.
func findCause[T any](config *T, parsed []parsedOption, check func(*T) error, err error) *caddyfile.Dispenser {
	var cures, matters *caddyfile.Dispenser
	for _, option := range parsed {
		without := *config
		for _, field := range option.fields {
			reflect.ValueOf(&without).Elem().Field(field).SetZero()
		}
		switch other := check(&without); {
		case other == nil:
			cures = option.at
		case other.Error() != err.Error():
			matters = option.at
		}
	}
	return cmp.Or(cures, matters)
}
