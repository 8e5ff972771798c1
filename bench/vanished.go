package main

import (
	"flag"
	"time"
)

type vanishedOptions struct{ total time.Duration }

func (o *vanishedOptions) flags() {
	flag.DurationVar(&o.total, "vanished-for", 2*time.Minute, "vanished: the longest measurement")
}
