package main

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// statuses returns the statuses of an order's history.
func statuses(order Order) []Status {
	var all []Status
	for _, step := range order.History {
		all = append(all, step.Status)
	}
	return all
}

func TestOrderAdvancesOncePerStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var notified []string
		orders := NewOrders(NewInventory(), 3*time.Second, func(n Notification) { notified = append(notified, n.Type) })
		order, err := orders.Place("alice", 5, 2)
		if err != nil {
			t.Fatal(err)
		}
		if order.Total.String() != "25.00" {
			t.Errorf("total is %s", order.Total)
		}
		for _, want := range []Status{PaymentProcessing, PaymentConfirmed, PreparingShipment, Shipped, Shipped} {
			synctest.Wait()
			if order, _ = orders.Get("alice", order.ID); order.Status != want {
				t.Errorf("status is %s, want %s", order.Status, want)
			}
			time.Sleep(3 * time.Second)
		}
		want := []Status{PaymentProcessing, PaymentConfirmed, PreparingShipment, Shipped}
		if got := statuses(order); !slices.Equal(got, want) {
			t.Errorf("history is %v", got)
		}
		if got := order.History[3].At.Sub(order.History[0].At); got != 9*time.Second {
			t.Errorf("it took %s", got)
		}
		if len(notified) != 4 || notified[3] != "order.shipped" {
			t.Errorf("the customer got %v", notified)
		}
	})
}

func TestOnlyCustomerSeesOwnOrders(t *testing.T) {
	shop := newShop()
	alice, bob := visit(t, shop, "alice"), visit(t, shop, "bob")
	id := alice.order("1").ID

	requireStatus(t, alice.do("GET", "/v1/orders/"+id, ""), http.StatusOK)
	requireStatus(t, bob.do("GET", "/v1/orders/"+id, ""), http.StatusNotFound)
	requireStatus(t, bob.do("POST", "/v1/orders/"+id+"/cancel", ""), http.StatusNotFound)
	if got := bob.do("GET", "/v1/orders", "").Body.String(); got != "{\"orders\":[]}\n" {
		t.Errorf("bob sees %s", got)
	}
}

func TestOrdersAreListedNewestFirst(t *testing.T) {
	alice := visit(t, newShop(), "alice")
	first, second := alice.order("1"), alice.order("2")
	got := decode[map[string][]Order](t, alice.do("GET", "/v1/orders", ""))["orders"]
	if len(got) != 2 || got[0].ID != second.ID || got[1].ID != first.ID {
		t.Errorf("orders are %+v", got)
	}
}

func TestOrderResponsesNameOrderURL(t *testing.T) {
	alice := visit(t, newShop(), "alice")
	res := alice.do("POST", "/v1/orders", `{"petId":1,"quantity":1}`)
	requireStatus(t, res, http.StatusCreated)
	path := res.Header().Get("Location")
	requireStatus(t, alice.do("GET", path, ""), http.StatusOK)

	res = alice.do("POST", path+"/cancel", "")
	if got := res.Header().Get("Content-Location"); got != path {
		t.Errorf("Content-Location is %q, want %q", got, path)
	}
}

func TestOrderTakesStockAndCancelReturnsIt(t *testing.T) {
	shop := newShop()
	alice := visit(t, shop, "alice")
	stock := func() int { return shop.inventory.Pets()[7].Stock }

	id := alice.order("8").ID
	alice.order("8")
	if stock() != 0 {
		t.Fatalf("stock is %d", stock())
	}
	requireStatus(t, alice.do("POST", "/v1/orders", `{"petId":8,"quantity":1}`), http.StatusConflict)

	for range 2 {
		res := alice.do("POST", "/v1/orders/"+id+"/cancel", "")
		requireStatus(t, res, http.StatusOK)
		if got := decode[Order](t, res).Status; got != Cancelled {
			t.Errorf("status is %s", got)
		}
	}
	if stock() != 1 {
		t.Errorf("stock is %d after a cancel that was sent twice, want 1", stock())
	}
}

func TestCancelledOrderNeverAdvances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice := visit(t, newShop(), "alice")
		path := "/v1/orders/" + alice.order("1").ID
		alice.do("POST", path+"/cancel", "")

		time.Sleep(time.Hour)
		synctest.Wait()
		if got := decode[Order](t, alice.do("GET", path, "")).Status; got != Cancelled {
			t.Errorf("status is %s", got)
		}
	})
}

func TestShippedOrderCannotBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice := visit(t, newShop(), "alice")
		path := "/v1/orders/" + alice.order("1").ID

		time.Sleep(3 * time.Minute)
		synctest.Wait()
		requireStatus(t, alice.do("POST", path+"/cancel", ""), http.StatusConflict)
	})
}

func TestNewOrderReplacesOldestFinishedOne(t *testing.T) {
	shop := newShop()
	shop.inventory.PutBack(1, maxStock)
	alice := visit(t, shop, "alice")
	oldest := alice.order("1")
	finished := alice.order("1")
	for range maxOrders - 2 {
		alice.order("1")
	}
	requireStatus(t, alice.do("POST", "/v1/orders", `{"petId":1,"quantity":1}`), http.StatusTooManyRequests)

	alice.do("POST", "/v1/orders/"+finished.ID+"/cancel", "")
	alice.order("1")
	requireStatus(t, alice.do("GET", "/v1/orders/"+finished.ID, ""), http.StatusNotFound)
	requireStatus(t, alice.do("GET", "/v1/orders/"+oldest.ID, ""), http.StatusOK)
}

func TestNumberOfCustomersIsBounded(t *testing.T) {
	orders := NewOrders(NewInventory(), time.Minute, func(Notification) {})
	for i := range maxCustomers {
		orders.byUser[string(rune('a'+i))] = nil
	}
	if _, err := orders.Place("someone else", 1, 1); err != errTooManyOrders {
		t.Errorf("error is %v", err)
	}
}
