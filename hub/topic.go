package hub

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopicLen is how many bytes a topic's name may have.
const MaxTopicLen = 1024

// CheckTopic tells whether a name that comes from outside may be a topic's: 1
// to [MaxTopicLen] bytes of UTF-8 without control characters. Topics of our
// own begin with one, so that nobody can name them.
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

// isOwn tells whether a topic is one of our own.
func isOwn(topic string) bool { return topic != "" && topic[0] < ' ' }

// CountTopics returns how many of some topics are not our own.
func CountTopics(topics []string) (n int) {
	for _, t := range topics {
		if !isOwn(t) {
			n++
		}
	}
	return n
}

// Topics returns the topics that are followed and by how many, but for our own,
// of which there are those of polled documents.
func (h *Hub) Topics() map[string]int {
	h.readersMu.RLock()
	defer h.readersMu.RUnlock()
	followers := make(map[string]int)
	for topic, readers := range h.readers {
		if !isOwn(topic) {
			followers[topic] = len(readers)
		}
	}
	return followers
}
