package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-sse/caddy-sse/internal/fair"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// room is slots, with the requests that hold one or wait for one.
type room struct {
	*fair.Slots
	n       int
	holding []*guest
	waiting []*guest
}

// guest is a request for a slot.
type guest struct {
	fair.Request
	slot   *fair.Slot
	err    error
	cancel context.CancelCauseFunc
	done   chan struct{}
}

var errLeft = errors.New("left")

func within(t *testing.T, n int, test func(r *room)) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{Slots: fair.NewSlots(n), n: n}
		test(r)
		for len(r.waiting) > 0 {
			r.leave(len(r.waiting) - 1)
		}
		for len(r.holding) > 0 {
			r.release(0)
		}
		if known := r.Known(); known > 0 {
			t.Errorf("the slots remember %d things of nobody", known)
		}
	})
}

// ask makes requests, and waits until each has a slot or waits for one.
func (r *room) ask(requests ...fair.Request) {
	for _, request := range requests {
		ctx, cancel := context.WithCancelCause(context.Background())
		g := &guest{Request: request, cancel: cancel, done: make(chan struct{})}
		r.waiting = append(r.waiting, g)
		go func() {
			defer close(g.done)
			g.slot, g.err = r.Acquire(ctx, request)
		}()
		r.collectGranted()
	}
}

// collectGranted moves those that have a slot by now from the waiting to the holding.
func (r *room) collectGranted() {
	synctest.Wait()
	r.waiting = slices.DeleteFunc(r.waiting, func(g *guest) bool {
		select {
		case <-g.done:
			r.holding = append(r.holding, g)
			return true
		default:
			return false
		}
	})
}

func (r *room) release(i int) (pace fair.Pace) {
	pace = r.holding[i].slot.Release()
	r.holding = slices.Delete(r.holding, i, i+1)
	r.collectGranted()
	return pace
}

func (r *room) leave(i int) error {
	g := r.waiting[i]
	g.cancel(errLeft)
	<-g.done
	r.waiting = slices.Delete(r.waiting, i, i+1)
	r.collectGranted()
	return g.err
}

// held returns how many slots the requests hold that match.
func (r *room) held(matches func(fair.Request) bool) (n int) {
	for _, g := range r.holding {
		if matches(g.Request) {
			n++
		}
	}
	return n
}

func (r *room) wantHeld(t *testing.T, what string, want int, matches func(fair.Request) bool) {
	t.Helper()
	if n := r.held(matches); n != want {
		t.Errorf("%s: %d of %d slots are held, want %d", what, n, r.n, want)
	}
}

func all(fair.Request) bool { return true }

func of(client string) func(fair.Request) bool {
	return func(r fair.Request) bool { return r.Client == client }
}

// many returns n requests.
func many(n int, request func(i int) fair.Request) (requests []fair.Request) {
	for i := range n {
		requests = append(requests, request(i))
	}
	return requests
}

func TestEachHolderHasItsPartOfTheSlots(t *testing.T) {
	for name, test := range map[string]struct {
		request func(i int) fair.Request
		parts   map[int]int // of how many slots
	}{
		"a client": {
			func(i int) fair.Request {
				return fair.Request{Client: "a", Host: fmt.Sprint(i), Path: "/", Pace: fair.Fast}
			},
			map[int]int{1: 1, 2: 1, 3: 2, 16: 8, 100: 50},
		},
		"a client without a host": {
			func(int) fair.Request { return fair.Request{Client: "a"} },
			map[int]int{1: 1, 2: 1, 3: 2, 16: 8, 100: 50},
		},
		"a path": {
			func(i int) fair.Request {
				return fair.Request{Client: fmt.Sprint(i), Host: "h", Path: "/", Pace: fair.Fast}
			},
			map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 16: 11, 100: 67},
		},
		"slow requests of a host": {
			func(i int) fair.Request {
				return fair.Request{Client: fmt.Sprint(i), Host: "h", Path: fmt.Sprint(i), Pace: fair.Slow}
			},
			map[int]int{1: 1, 3: 3, 4: 3, 16: 12, 100: 75},
		},
		"new requests of a host": {
			func(i int) fair.Request { return fair.Request{Client: fmt.Sprint(i), Host: "h", Path: fmt.Sprint(i)} },
			map[int]int{1: 1, 9: 9, 10: 9, 16: 15, 100: 90},
		},
		"fast requests of a host": {
			func(i int) fair.Request { return fair.Request{Host: "h", Path: fmt.Sprint(i), Pace: fair.Fast} },
			map[int]int{1: 1, 9: 9, 10: 9, 16: 15, 100: 90},
		},
		"a host": {
			func(i int) fair.Request { return fair.Request{Host: "h", Path: fmt.Sprint(i), Pace: fair.Pace(i % 2)} },
			map[int]int{1: 1, 20: 19, 100: 95},
		},
		"requests that have nothing in common": {
			func(i int) fair.Request { return fair.Request{Client: fmt.Sprint(i), Host: fmt.Sprint(i)} },
			map[int]int{1: 1, 2: 2, 16: 16, 100: 100},
		},
	} {
		for slots, part := range test.parts {
			within(t, slots, func(r *room) {
				r.ask(many(6*slots, test.request)...)
				r.wantHeld(t, name, part, all)
				for range part { // others take their places
					r.release(0)
				}
				r.wantHeld(t, name+", later", part, all)
			})
		}
	}
}

func TestEachKindOfHolderLeavesSlotsToTheNext(t *testing.T) {
	for _, slots := range []int{20, 40, 100} {
		within(t, slots, func(r *room) {
			one := func(client, host, path string, pace fair.Pace) func(int) fair.Request {
				return func(i int) fair.Request {
					replace := strings.NewReplacer("*", fmt.Sprint(i))
					return fair.Request{Client: replace.Replace(client), Host: host, Path: replace.Replace(path), Pace: pace}
				}
			}
			for _, next := range []struct {
				who     string
				request func(int) fair.Request
			}{
				{"one client", one("a", "h", "/", fair.Slow)},
				{"other clients on its path", one("b*", "h", "/", fair.Slow)},
				{"other slow paths", one("c*", "h", "/slow/*", fair.Slow)},
				{"new requests", one("d*", "h", "/new/*", fair.New)},
				{"fast requests", one("e*", "h", "/fast/*", fair.Fast)},
				{"another host", one("f*", "other", "/*", fair.New)},
			} {
				before := len(r.holding)
				r.ask(many(2*slots, next.request)...)
				if len(r.holding) == before {
					t.Errorf("%s get none of %d slots, of which %d are free", next.who, slots, slots-before)
				}
			}
		})
	}
}

func TestRequestOfNoHolderGetsAFreeSlotAtOnce(t *testing.T) {
	within(t, 100, func(r *room) {
		for k := range 5 { // each has half of what the ones before have left
			client := fmt.Sprint(k)
			r.ask(many(900, func(i int) fair.Request { return fair.Request{Client: client, Host: client, Path: fmt.Sprint(i)} })...)
			r.ask(fair.Request{Client: "new" + client, Host: "h", Path: client})
			r.wantHeld(t, "a client that is new", 1, of("new"+client))
		}
	})
}

func TestNewcomerIsServedBeforeThoseWhoHoldSlots(t *testing.T) {
	within(t, 100, func(r *room) {
		r.ask(many(100, func(i int) fair.Request { return fair.Request{Client: fmt.Sprint("first", i), Host: fmt.Sprint(i)} })...)
		r.ask(many(900, func(i int) fair.Request { return fair.Request{Client: "first1", Host: "h", Path: fmt.Sprint(i)} })...)
		r.ask(fair.Request{Client: "new", Host: "h", Path: "/"})
		r.release(0)
		r.wantHeld(t, "the client that is new", 1, of("new"))
	})
}

func TestClientsOfOnePathTakeTurns(t *testing.T) {
	within(t, 4, func(r *room) {
		r.ask(many(100, func(i int) fair.Request {
			return fair.Request{Client: []string{"many", "b"}[i/99], Host: "h", Path: "/"}
		})...)
		r.wantHeld(t, "the client of one request", 1, of("b"))
		for _, c := range "cdef" {
			r.ask(fair.Request{Client: string(c), Host: "h", Path: "/"})
		}
		for range 6 {
			r.release(0)
		}
		for _, g := range r.waiting {
			if g.Client != "many" {
				t.Errorf("client %s waits, although 6 slots were free and another has 99 requests", g.Client)
			}
		}
	})
}

func TestRequestThatLeavesTakesNoSlot(t *testing.T) {
	within(t, 1, func(r *room) {
		one := fair.Request{Client: "a", Host: "h", Path: "/"}
		r.ask(one, one, one)
		if err := r.leave(0); !errors.Is(err, errLeft) {
			t.Errorf("the error is %v", err)
		}
		r.release(0)
		r.wantHeld(t, "the last request", 1, all)
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errLeft)
		if _, err := r.Acquire(ctx, one); !errors.Is(err, errLeft) {
			t.Errorf("a request that has left gets %v", err)
		}
	})
}

func TestReleaseReturnsThePace(t *testing.T) {
	for held, want := range map[time.Duration]fair.Pace{0: fair.Fast, fair.SlowAfter: fair.Fast, fair.SlowAfter + 1: fair.Slow} {
		within(t, 1, func(r *room) {
			r.ask(fair.Request{Client: "a"})
			time.Sleep(held)
			if pace := r.release(0); pace != want {
				t.Errorf("a slot held for %v: the pace is %v", held, pace)
			}
		})
	}
}

// TestModelNobodyWaitsWhoMayHaveASlot compares random walks with the rule, which
// it computes from all that hold slots.
func TestModelNobodyWaitsWhoMayHaveASlot(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		within(t, 1+random.IntN(20), func(r *room) {
			for range 400 {
				switch random.IntN(5) {
				case 0, 1, 2:
					request := fair.Request{Pace: fair.Pace(random.IntN(3)), Client: fmt.Sprint(random.IntN(4)), Path: fmt.Sprint(random.IntN(3))}
					request.Host = []string{"", "h", "i"}[random.IntN(3)]
					if request.Client == "0" {
						request.Client = ""
					}
					r.ask(request)
				case 3:
					if len(r.holding) > 0 {
						r.release(random.IntN(len(r.holding)))
					}
				case 4:
					if len(r.waiting) > 0 {
						_ = r.leave(random.IntN(len(r.waiting)))
					}
				}
				if len(r.holding) > r.n {
					t.Fatalf("%d of %d slots are held", len(r.holding), r.n)
				}
				for _, g := range r.waiting {
					if r.mayHave(g.Request) {
						t.Fatalf("seed %d: %+v waits, though it may have a slot", seed, g.Request)
					}
				}
			}
		})
	}
}

// mayHave is the rule.
func (r *room) mayHave(q fair.Request) bool {
	free := r.n - len(r.holding)
	if (q.Client != "" || q.Host == "") && r.held(of(q.Client)) >= free {
		return false
	}
	if q.Host == "" {
		return free > 0
	}
	return r.held(func(o fair.Request) bool { return o.Host == q.Host && o.Path == q.Path }) < 2*free &&
		(q.Pace != fair.Slow || r.held(func(o fair.Request) bool { return o.Host == q.Host && o.Pace == fair.Slow }) < 3*free) &&
		(q.Pace == fair.Fast || r.held(func(o fair.Request) bool { return o.Host == q.Host && o.Pace != fair.Fast }) < 9*free) &&
		(q.Pace == fair.New || r.held(func(o fair.Request) bool { return o.Host == q.Host && o.Pace != fair.New }) < 9*free) &&
		r.held(func(o fair.Request) bool { return o.Host == q.Host }) < 19*free
}

// BenchmarkAcquire measures a slot's acquisition and release, while others wait
// that are not served.
func BenchmarkAcquire(b *testing.B) {
	for _, waiting := range []int{0, 10000} {
		b.Run(fmt.Sprint(waiting, "wait"), func(b *testing.B) {
			s := fair.NewSlots(100)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			for i := range waiting + 50 { // one client has half of the slots
				go func() {
					if _, err := s.Acquire(ctx, fair.Request{Client: "a", Host: "h", Path: fmt.Sprint(i)}); err == nil {
						<-ctx.Done()
					}
					done <- struct{}{}
				}()
			}
			for s.Waiting() < waiting {
				time.Sleep(time.Millisecond)
			}
			one := fair.Request{Client: "192.0.2.1", Host: "example.com", Path: "/v1/orders/1"}
			b.ReportAllocs()
			for b.Loop() {
				slot, err := s.Acquire(b.Context(), one)
				if err != nil {
					b.Fatal(err)
				}
				slot.Release()
			}
			cancel()
			for range waiting + 50 {
				<-done
			}
		})
	}
}

// BenchmarkHandover measures a slot's way to a request that waits, while n wait.
func BenchmarkHandover(b *testing.B) {
	for name, request := range map[string]func(i int) fair.Request{
		"clients of one path": func(i int) fair.Request { return fair.Request{Client: fmt.Sprint(i), Host: "h", Path: "/"} },
		"paths of one client": func(i int) fair.Request { return fair.Request{Client: "a", Host: "h", Path: fmt.Sprint(i)} },
	} {
		for _, n := range []int{200, 10000} {
			b.Run(fmt.Sprint(name, n), func(b *testing.B) {
				s := fair.NewSlots(100)
				ctx, cancel := context.WithCancel(b.Context())
				granted, done := make(chan *fair.Slot, n), make(chan struct{})
				for i := range n {
					go func() {
						for {
							slot, err := s.Acquire(ctx, request(i))
							if err != nil {
								done <- struct{}{}
								return
							}
							granted <- slot
						}
					}()
				}
				for s.Waiting() < n-100 {
					time.Sleep(time.Millisecond)
				}
				for b.Loop() {
					(<-granted).Release()
				}
				cancel()
				for range n {
					<-done
				}
			})
		}
	}
}

// asker waits without a goroutine.
type asker chan *fair.Slot

func (a asker) Granted(s *fair.Slot) { a <- s }

func TestWaiterGetsOneSlotUnlessItCancels(t *testing.T) {
	slots, one := fair.NewSlots(1), fair.Request{Client: "a", Host: "h", Path: "/"}
	held, wait := slots.Ask(one, nil)
	if held == nil || wait != nil {
		t.Fatalf("a free slot is not given at once: %v, %v", held, wait)
	}
	first, second := make(asker, 2), make(asker, 2)
	_, left := slots.Ask(one, first)
	if _, wait = slots.Ask(one, second); !left.Cancel() || left.Cancel() {
		t.Error("a wait can't be cancelled, or can be twice")
	}
	held.Release()
	if len(first) != 0 || len(second) != 1 || wait.Cancel() {
		t.Errorf("the one who has left got %d slots, the other %d", len(first), len(second))
	}
	(<-second).Release()
	if slots.Known() != 0 {
		t.Error("the slots remember something of nobody")
	}
}
