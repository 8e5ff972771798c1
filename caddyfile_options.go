package caddysse

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// options maps each option of a block to the function that parses its arguments.
// The dispenser is on the option's word when the function is called.
type options map[string]func(d *caddyfile.Dispenser) error

// repeatable lists the options that may occur more than once in a block. Their
// functions refuse duplicates themselves.
var repeatable = map[string]bool{"max_streams": true, "refresh": true, "header_up": true}

// parseBlock parses the block that follows, if there is one. Each option may
// occur once.
func parseBlock(d *caddyfile.Dispenser, name string, known options) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		parse := known[option]
		switch {
		case parse == nil:
			return d.Errf("unknown option %q of %s: want one of %s", option, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case seen[option] && !repeatable[option]:
			return d.Errf("%s stands twice in %s: use one line", option, name)
		}
		seen[option] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
}

// words parses one argument or more.
func words(dst *[]string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		*dst = d.RemainingArgs()
		if len(*dst) == 0 {
			return d.Errf("%s needs a value", option)
		}
		return nil
	}
}

// flag parses an option without arguments.
func flag(dst *bool) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		if d.NextArg() {
			return d.Errf("%s takes no value, got %q", option, d.Val())
		}
		*dst = true
		return nil
	}
}

// word parses exactly one argument, which must not be empty.
func word(dst *string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		args := d.RemainingArgs()
		switch {
		case len(args) == 0 || args[0] == "":
			return d.Errf("%s needs a value", option)
		case len(args) > 1:
			return d.Errf("%s takes one value, got %s: put a value with spaces in quotes", option, strings.Join(args, " "))
		}
		*dst = args[0]
		return nil
	}
}

// converted parses one argument and converts it.
func converted(set func(d *caddyfile.Dispenser, option, value string) error) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		var value string
		if err := word(&value)(d); err != nil {
			return err
		}
		return set(d, option, value)
	}
}

func duration(dst *caddy.Duration) func(*caddyfile.Dispenser) error {
	return converted(func(d *caddyfile.Dispenser, option, value string) error {
		return setDuration(d, option, value, dst)
	})
}

func setDuration(d *caddyfile.Dispenser, option, value string, dst *caddy.Duration) error {
	parsed, err := caddy.ParseDuration(value)
	if err != nil || parsed <= 0 {
		return d.Errf("%s %q is no duration above zero: write for example %v", option, value, 15*time.Second)
	}
	*dst = caddy.Duration(parsed)
	return nil
}

func size(dst *int64) func(*caddyfile.Dispenser) error {
	return converted(func(d *caddyfile.Dispenser, option, value string) error {
		n, err := humanize.ParseBytes(value)
		if err != nil || n == 0 || n > 1<<40 {
			return d.Errf("%s %q is no size above zero: write for example 10MiB", option, value)
		}
		*dst = int64(n)
		return nil
	})
}

func count(dst *int) func(*caddyfile.Dispenser) error {
	return converted(func(d *caddyfile.Dispenser, option, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return d.Errf("%s %q is no whole number above zero", option, value)
		}
		*dst = n
		return nil
	})
}
