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
			f.add(strconv.Itoa(i), doc)
			if len(f.clients) > maxFinished || !f.knows(strconv.Itoa(i)) {
				t.Fatalf("%d clients, and the newest is known: %v", len(f.clients), f.knows(strconv.Itoa(i)))
			}
		}
		time.Sleep(finishedMemory)
		if f.add("new", doc); len(f.clients) != 1 {
			t.Errorf("%d clients are left, of which one may be", len(f.clients))
		}
	})
}
