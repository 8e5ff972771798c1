package hub

import (
	"slices"
	"strings"
)

// tagLen is the length of a tag: 30 bits, so that no two topics of a client have
// the same tag by chance. A tag is no proof of access.
const tagLen = 5

// beforeTags separates a position of the log from tags.
const beforeTags = "~"

// Tag returns a short keyed hash of a topic, for [Hub.TaggedPosition].
func (h *Hub) Tag(topic string) string { return h.Digest("tag", topic)[:tagLen] }

// TaggedPosition returns an id that resumes after the event at seq, for a client
// that has the events of several topics up to there. The tags are those of the
// topics, joined; see [Hub.Followed].
func (h *Hub) TaggedPosition(seq uint64, tags string) string {
	return h.position(seq) + beforeTags + tags
}

// HasTag reports whether an id that [Hub.TaggedPosition] has returned has a tag.
func HasTag(id, tag string) bool {
	_, tags, _ := strings.Cut(id, beforeTags)
	for ; len(tags) >= tagLen; tags = tags[tagLen:] {
		if tags[:tagLen] == tag {
			return true
		}
	}
	return false
}

// Followed returns the first of the topics of which a client has the events up to
// a position, by the id that has resolved to the position: the event there is on
// the topic or, if the id has tags, one of them is the topic's. It returns false if
// there is none. The topics must be internal ones, which only the module names.
func (h *Hub) Followed(id string, seq uint64, topics []string) (topic string, ok bool) {
	followed := func(topic string) bool { return HasTag(id, h.Tag(topic)) }
	if !strings.HasPrefix(id, h.epoch()) || !strings.Contains(id, beforeTags) {
		e := h.Entry(seq)
		if e == nil {
			return "", false
		}
		followed = e.On
	}
	if i := slices.IndexFunc(topics, followed); i >= 0 {
		return topics[i], true
	}
	return "", false
}

// MayFollow reports whether a client with an id may have the events of a topic up to
// the id: the id has no tags, or the topic's.
func (h *Hub) MayFollow(id, topic string) bool {
	return !strings.HasPrefix(id, h.epoch()) || !strings.Contains(id, beforeTags) || HasTag(id, h.Tag(topic))
}

// Head returns the position of the log's newest event, or that of the last one that
// it has dropped if it holds none.
func (h *Hub) Head() uint64 {
	_, head := h.store.Range()
	return head
}
