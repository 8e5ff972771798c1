package hub

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopicLen is the maximum length of a topic's name in bytes.
const MaxTopicLen = 1024

// CheckTopic returns an error unless a client may use the name for a topic: 1 to
// [MaxTopicLen] bytes of UTF-8 without control characters. The names of internal
// topics begin with a control character, so that no client can use them.
func CheckTopic(topic string) error {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case topic == "":
		return errors.New("the topic is empty")
	case len(topic) > MaxTopicLen:
		return fmt.Errorf("the topic is longer than %d bytes", MaxTopicLen)
	case !utf8.ValidString(topic):
		return errors.New("the topic is not UTF-8")
	case strings.ContainsFunc(topic, isControl):
		return fmt.Errorf("the topic %q holds a control character", topic)
	}
	return nil
}

// IsInternal reports whether only the module itself uses a topic.
func IsInternal(topic string) bool { return topic != "" && topic[0] < ' ' }

// CountTopics returns how many of the topics are not internal.
func CountTopics(topics []string) (n int) {
	for _, t := range topics {
		if !IsInternal(t) {
			n++
		}
	}
	return n
}

// Topics returns the number of subscribers of each topic that has any. It leaves
// out internal topics, such as those of polled documents.
func (h *Hub) Topics() map[string]int {
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	subscribers := make(map[string]int)
	for topic, cursors := range h.subscribers {
		if !IsInternal(topic) {
			subscribers[topic] = len(cursors)
		}
	}
	return subscribers
}
