package webhook

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// optionSenders names the senders that take an option, for errors. The senders
// of all other options are hmac.
var optionSenders = map[string]string{"url": "twilio`, `hubspot`, `square` or `hmac", "user": "basic", "hosts": "sns", "challenge": "meta`, `websub` or `cloudevents"}

// checkOptions refuses options that the sender doesn't take.
func (v *Verify) checkOptions(s sender) error {
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"header", v.Header != ""},
		{"algorithm", v.Algorithm != ""},
		{"encoding", v.Encoding != ""},
		{"prefix", v.Prefix != ""},
		{"separator", v.Separator != ""},
		{"key", v.Key != ""},
		{"signed", v.Signed != ""},
		{"timestamp", v.Timestamp != ""},
		{"timestamp_prefix", v.TimestampPrefix != ""},
		{"tolerance", v.Tolerance != 0},
		{"url", v.URL != ""},
		{"user", v.User != ""},
		{"challenge", len(v.Challenge) > 0},
		{"hosts", len(v.Hosts) > 0},
	} {
		allowed := slices.Contains(s.options, option.name) ||
			option.name == "tolerance" && (s.timestamp != "" || s.timePrefix != "" || s.timeField != "" || slices.Contains(s.options, "timestamp"))
		if option.set && !allowed {
			return fmt.Errorf("it takes no %s; only `verify %s` does", option.name, cmp.Or(optionSenders[option.name], "hmac"))
		}
	}
	if v.Tolerance < 0 {
		return fmt.Errorf("the tolerance is %v: want a positive duration", time.Duration(v.Tolerance))
	}
	if v.Tolerance > 0 && slices.Contains(s.options, "timestamp") && v.Timestamp == "" && v.TimestampPrefix == "" {
		return errors.New("a tolerance needs a timestamp: add `timestamp X-Timestamp`")
	}
	return v.checkTimestamp()
}

func (v *Verify) checkTimestamp() error {
	switch {
	case v.TimestampPrefix != "" && v.Timestamp != "":
		return errors.New("timestamp and timestamp_prefix both say where the time is: leave one of them out")
	case v.TimestampPrefix != "" && v.Separator == "":
		return errors.New("a timestamp_prefix needs what separates the time from the signature: add `separator ,`")
	case v.TimestampPrefix != "" && (v.Prefix == "" || v.Prefix == v.TimestampPrefix):
		return errors.New("a timestamp_prefix needs another prefix of the signature: add `prefix v1=`")
	}
	return nil
}

// timeField returns the GJSON path of a timestamp that is a field of the body.
func timeField(timestamp string) (path string, ok bool) {
	path, ok = strings.CutPrefix(timestamp, "{"+jsonPrefix)
	if !ok || !strings.HasSuffix(path, "}") || len(path) == 1 {
		return "", false
	}
	return strings.TrimSuffix(path, "}"), true
}

// apply returns the sender's row with the rule's options in it.
func (v *Verify) apply(s sender) sender {
	s.header = cmp.Or(v.Header, s.header)
	s.algorithm = cmp.Or(v.Algorithm, s.algorithm)
	s.encoding = cmp.Or(v.Encoding, s.encoding)
	s.prefix = cmp.Or(v.Prefix, s.prefix)
	s.signed = cmp.Or(v.Signed, s.signed)
	s.separator = cmp.Or(v.Separator, s.separator)
	s.timePrefix = cmp.Or(v.TimestampPrefix, s.timePrefix)
	if path, ok := timeField(v.Timestamp); ok {
		s.timeField = path
	} else {
		s.timestamp = cmp.Or(v.Timestamp, s.timestamp)
	}
	s.url = cmp.Or(v.URL, s.url)
	return s
}
