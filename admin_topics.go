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
	// Followers is by how many streams it is followed.
	Followers int `json:"followers"`
	// Last is the newest event on it that the history holds; nil: none.
	Last *lastEvent `json:"last,omitempty"`
}

// lastEvent is when an event was published, and what clients know it by.
type lastEvent struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
}

// topicList is what GET /sse/topics answers.
type topicList struct {
	Total  int          `json:"total"` // of those that match
	Topics []topicEntry `json:"topics"`
}

// listTopics answers with the topics that are followed, those with the most
// followers first: those of ?hub= and that begin with ?prefix=, at most ?limit=
// of them, 1000 unless it says otherwise. A topic that is named by ?topic= is
// looked up whether it is followed or not.
func listTopics(w http.ResponseWriter, r *http.Request) error {
	limit, err := checkListing(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := topicList{Topics: []topicEntry{}}
	eachHub(func(name string, s *sharedHub) {
		if wanted(query, "hub", name) {
			list.add(name, s.Hub, query.Get("prefix"), query["topic"])
		}
	})
	slices.SortFunc(list.Topics, func(a, b topicEntry) int {
		return cmp.Or(cmp.Compare(b.Followers, a.Followers), strings.Compare(a.Hub, b.Hub), strings.Compare(a.Topic, b.Topic))
	})
	list.Total = len(list.Topics)
	list.Topics = list.Topics[:min(limit, len(list.Topics))]
	return answerJSON(w, http.StatusOK, list.withLast())
}

// add adds the topics of a hub: those that are named or, if none is, those that
// are followed.
func (l *topicList) add(name string, h *hub.Hub, prefix string, named []string) {
	followed := h.Topics()
	if len(named) == 0 {
		for topic, followers := range followed {
			if strings.HasPrefix(topic, prefix) {
				l.Topics = append(l.Topics, topicEntry{Hub: name, Topic: topic, Followers: followers})
			}
		}
		return
	}
	for _, topic := range named {
		if hub.CheckTopic(topic) == nil && (followed[topic] > 0 || h.Last(topic) != nil) {
			l.Topics = append(l.Topics, topicEntry{Hub: name, Topic: topic, Followers: followed[topic]})
		}
	}
}

// withLast looks up the newest event of each topic that is listed.
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
