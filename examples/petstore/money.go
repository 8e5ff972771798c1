package main

import (
	"fmt"
	"regexp"
	"strconv"
)

// Cents is an amount of money. In JSON it is a string like "12.50", because most
// parsers read a number as a float.
type Cents int64

var moneySyntax = regexp.MustCompile(`^([0-9]{1,6})\.([0-9]{2})$`)

// String returns the amount with its two decimals.
func (c Cents) String() string { return fmt.Sprintf("%d.%02d", c/100, c%100) }

// MarshalText makes encoding/json write a string.
func (c Cents) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText accepts what MarshalText writes, up to "999999.99".
func (c *Cents) UnmarshalText(text []byte) error {
	parts := moneySyntax.FindSubmatch(text)
	if parts == nil {
		return fmt.Errorf("%q is not an amount like 12.50", text)
	}
	amount, err := strconv.ParseInt(string(parts[1])+string(parts[2]), 10, 64)
	*c = Cents(amount)
	return err
}
