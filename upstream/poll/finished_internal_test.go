package poll

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestFinishedClientsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f finished
		doc := &target{hostname: "a", path: "/doc"}
		for i := range 3 * maxFinished {
			f.add(strconv.Itoa(i), doc, "topic")
			if len(f.clients) > maxFinished || f.knows(strconv.Itoa(i)) != "topic" {
				t.Fatalf("%d clients, and the newest is known as %q", len(f.clients), f.knows(strconv.Itoa(i)))
			}
		}
		time.Sleep(finishedMemory)
		if f.add("new", doc, "topic"); len(f.clients) != 1 {
			t.Errorf("%d clients are left, of which one may be", len(f.clients))
		}
	})
}
