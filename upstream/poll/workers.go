package poll

import (
	"sync"

	"github.com/caddy-sse/caddy-sse/internal/fair"
)

// workers are the goroutines that make the polls of a poller's views. A worker
// whose poll is over waits for another one: a request through Caddy's handlers needs
// a stack that grows several times, and the worker's has grown already. The polls
// that have a slot, have just released it, or wait for a further one have a worker.
type workers struct {
	most int // workers beyond which none becomes idle

	mu    sync.Mutex
	views int        // those that may need a worker
	all   int        // workers
	idle  []chan job // the last one was the last to work
}

// job is a poll, with its slot; nil if it needs none.
type job struct {
	loop *pollLoop
	slot *fair.Slot
}

// enter counts a view, which may call run until it calls leave.
func (w *workers) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.views++
}

// leave ends all idle workers after the last view.
func (w *workers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.views--; w.views == 0 {
		for _, idle := range w.idle {
			close(idle)
		}
		w.all -= len(w.idle)
		w.idle = nil
	}
}

// run gives a worker a job. It doesn't wait.
func (w *workers) run(j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := len(w.idle) - 1; last >= 0 {
		w.idle[last] <- j // it has room for one
		w.idle = w.idle[:last]
		return
	}
	w.all++
	go w.work(j)
}

func (w *workers) work(j job) {
	jobs := make(chan job, 1)
	for more := true; more; j, more = <-jobs {
		j.loop.run(j.slot)
		j = job{} // it may wait for the next one for long
		if !w.rest(jobs) {
			return
		}
	}
}

// rest makes a worker idle. It returns false if there are enough.
func (w *workers) rest(jobs chan job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.views == 0 || w.all > w.most {
		w.all--
		return false
	}
	w.idle = append(w.idle, jobs)
	return true
}
