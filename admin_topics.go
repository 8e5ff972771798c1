package caddysse

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
)

// topicEntry is a topic in the list.
type topicEntry struct {
	Hub   string `json:"hub"`
	Topic string `json:"topic"`
	// Subscribers is the number of streams on the topic.
	Subscribers int `json:"followers"`
	// Last is the topic's newest event in the history; nil: none.
	Last *lastEvent `json:"last,omitempty"`
}

// lastEvent is an event's id on the wire, and when it was published.
type lastEvent struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
}

// topicList is the response to GET /sse/topics.
type topicList struct {
	Total  int          `json:"total"` // of those that match
	Topics []topicEntry `json:"topics"`
}

// listTopics lists the topics with subscribers, those with the most first:
// those of ?hub= that begin with ?prefix=, at most ?limit= of them. With ?topic=
// it lists the given topics, also if they have no subscribers.
func listTopics(w http.ResponseWriter, r *http.Request) error {
	limit, err := parseLimit(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := topicList{Topics: []topicEntry{}}
	eachHub(func(name string, s *sharedHub) {
		if matchesFilter(query, "hub", name) {
			list.add(name, s.Hub, query.Get("prefix"), query["topic"])
		}
	})
	slices.SortFunc(list.Topics, func(a, b topicEntry) int {
		return cmp.Or(cmp.Compare(b.Subscribers, a.Subscribers), strings.Compare(a.Hub, b.Hub), strings.Compare(a.Topic, b.Topic))
	})
	list.Total = len(list.Topics)
	list.Topics = list.Topics[:min(limit, len(list.Topics))]
	return writeJSON(w, http.StatusOK, list.withLast())
}

// add adds topics of a hub: the named ones or, if none is named, those with
// subscribers.
func (l *topicList) add(name string, h *hub.Hub, prefix string, named []string) {
	subscribers := h.Topics()
	if len(named) == 0 {
		for topic, n := range subscribers {
			if strings.HasPrefix(topic, prefix) {
				l.Topics = append(l.Topics, topicEntry{Hub: name, Topic: topic, Subscribers: n})
			}
		}
		return
	}
	for _, topic := range named {
		if hub.CheckTopic(topic) == nil && (subscribers[topic] > 0 || h.Last(topic) != nil) {
			l.Topics = append(l.Topics, topicEntry{Hub: name, Topic: topic, Subscribers: subscribers[topic]})
		}
	}
}

// withLast adds the newest event of each topic in the list.
func (l *topicList) withLast() *topicList {
	eachHub(func(name string, s *sharedHub) {
		for i := range l.Topics {
			t := &l.Topics[i]
			if t.Hub != name {
				continue
			}
			if last := s.Last(t.Topic); last != nil {
				t.Last = &lastEvent{last.ID, last.Time.UTC()}
			}
		}
	})
	return l
}
