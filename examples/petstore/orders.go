package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// The limits of the memory. If a customer has too many orders, a new one replaces
// the oldest finished one.
const (
	maxOrders    = 20
	maxCustomers = 1000
	maxQuantity  = 9
)

var (
	errNoSuchOrder   = &problem{http.StatusNotFound, "no such order"}
	errShipped       = &problem{http.StatusConflict, "shipped already"}
	errTooManyOrders = &problem{http.StatusTooManyRequests, "too many open orders"}
)

// Status is the state of an order.
type Status string

// An order has the first four in turn, unless it is cancelled.
const (
	PaymentProcessing Status = "payment_processing"
	PaymentConfirmed  Status = "payment_confirmed"
	PreparingShipment Status = "preparing_shipment"
	Shipped           Status = "shipped"
	Cancelled         Status = "cancelled"
)

// nextStatus has no entry for a final status.
var nextStatus = map[Status]Status{
	PaymentProcessing: PaymentConfirmed,
	PaymentConfirmed:  PreparingShipment,
	PreparingShipment: Shipped,
}

// news are the messages for the customer, by the order's new status.
var news = map[Status]string{
	PaymentProcessing: "We have your order of %s.",
	PaymentConfirmed:  "Your payment for %s went through.",
	PreparingShipment: "We are packing %s for the journey.",
	Shipped:           "On the way to you: %s.",
	Cancelled:         "Your order of %s is cancelled.",
}

// Order is one customer's order of one kind of pet.
type Order struct {
	ID       string `json:"id"`
	PetID    int    `json:"petId"`
	Pet      string `json:"pet"`
	Quantity int    `json:"quantity"`
	Total    Cents  `json:"total"`
	Status   Status `json:"status"`
	History  []Step `json:"history"`
}

// Step is the time at which an order reached a status.
type Step struct {
	Status Status    `json:"status"`
	At     time.Time `json:"at"`
}

func (o *Order) finished() bool { return nextStatus[o.Status] == "" }

// snapshot returns a copy, which does not change when the order does.
func (o *Order) snapshot() Order {
	clone := *o
	clone.History = slices.Clone(o.History)
	return clone
}

// Orders holds the orders of all customers and advances each by time. It is safe
// for concurrent use.
type Orders struct {
	inventory *Inventory
	step      time.Duration
	notify    func(Notification)

	mu     sync.Mutex
	lastID int
	byUser map[string][]*Order // newest first
}

// NewOrders returns an empty order book. Orders spend step in each status. It calls
// notify for every change, in order; notify must not block.
func NewOrders(inventory *Inventory, step time.Duration, notify func(Notification)) *Orders {
	return &Orders{inventory: inventory, step: step, notify: notify, byUser: make(map[string][]*Order)}
}

// Of returns a customer's orders, newest first; an empty slice if there are
// none, which JSON shows as [].
func (o *Orders) Of(user string) []Order {
	o.mu.Lock()
	defer o.mu.Unlock()
	orders := make([]Order, 0, len(o.byUser[user]))
	for _, order := range o.byUser[user] {
		orders = append(orders, order.snapshot())
	}
	return orders
}

// Get returns one of the customer's orders. It does not find other customers'.
func (o *Orders) Get(user, id string) (Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	order, err := o.findLocked(user, id)
	if err != nil {
		return Order{}, err
	}
	return order.snapshot(), nil
}

func (o *Orders) findLocked(user, id string) (*Order, error) {
	orders := o.byUser[user]
	i := slices.IndexFunc(orders, func(order *Order) bool { return order.ID == id })
	if i < 0 {
		return nil, errNoSuchOrder
	}
	return orders[i], nil
}

// Place takes the pets out of stock and starts the order.
func (o *Orders) Place(user string, petID, quantity int) (Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.makeRoomLocked(user); err != nil {
		return Order{}, err
	}
	pet, err := o.inventory.Take(petID, quantity)
	if err != nil {
		return Order{}, err
	}
	o.lastID++
	order := &Order{
		ID:       fmt.Sprintf("o-%d", o.lastID),
		PetID:    pet.ID,
		Pet:      pet.Name,
		Quantity: quantity,
		Total:    pet.Price * Cents(quantity),
	}
	o.byUser[user] = slices.Insert(o.byUser[user], 0, order)
	o.setStatusLocked(user, order, PaymentProcessing)
	return order.snapshot(), nil
}

func (o *Orders) makeRoomLocked(user string) error {
	orders, known := o.byUser[user]
	if !known && len(o.byUser) >= maxCustomers {
		return errTooManyOrders
	}
	if len(orders) < maxOrders {
		return nil
	}
	for i, order := range slices.Backward(orders) {
		if order.finished() {
			o.byUser[user] = slices.Delete(orders, i, i+1)
			return nil
		}
	}
	return errTooManyOrders
}

// setStatusLocked sets an order's status, notifies the customer, and schedules the
// next status.
func (o *Orders) setStatusLocked(user string, order *Order, status Status) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	order.Status = status
	order.History = append(order.History, Step{status, now})
	o.notify(notificationOf(user, order, now))
	if next, ok := nextStatus[status]; ok {
		time.AfterFunc(o.step, func() { o.advance(user, order, status, next) })
	}
}

// advance sets an order's next status, unless it was cancelled in the meantime.
func (o *Orders) advance(user string, order *Order, from, to Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if order.Status == from {
		o.setStatusLocked(user, order, to)
	}
}

func notificationOf(user string, order *Order, at time.Time) Notification {
	pets := fmt.Sprintf("%d × %s", order.Quantity, order.Pet)
	return Notification{
		Type:      "order." + string(order.Status),
		Timestamp: at,
		Data: NotificationData{
			UserID:  user,
			OrderID: order.ID,
			Message: fmt.Sprintf(news[order.Status], pets),
		},
	}
}

// Cancel cancels an order and puts the pets back, unless they were shipped. To
// cancel again does nothing.
func (o *Orders) Cancel(user, id string) (Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	order, err := o.findLocked(user, id)
	switch {
	case err != nil:
		return Order{}, err
	case order.Status == Shipped:
		return Order{}, errShipped
	case order.Status != Cancelled:
		o.inventory.PutBack(order.PetID, order.Quantity)
		o.setStatusLocked(user, order, Cancelled)
	}
	return order.snapshot(), nil
}

func (a *api) listOrders(w http.ResponseWriter, _ *http.Request, user string) error {
	writeJSON(w, http.StatusOK, map[string][]Order{"orders": a.orders.Of(user)})
	return nil
}

func (a *api) showOrder(w http.ResponseWriter, r *http.Request, user string) error {
	order, err := a.orders.Get(user, r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, order)
	return nil
}

func (a *api) placeOrder(w http.ResponseWriter, r *http.Request, user string) error {
	var wish struct {
		PetID    int `json:"petId"`
		Quantity int `json:"quantity"`
	}
	if err := readJSON(r, &wish); err != nil {
		return err
	}
	if wish.Quantity < 1 || wish.Quantity > maxQuantity {
		return badRequest("quantity must be between 1 and %d", maxQuantity)
	}
	order, err := a.orders.Place(user, wish.PetID, wish.Quantity)
	if err != nil {
		return err
	}
	w.Header().Set("Location", orderPath(order))
	writeJSON(w, http.StatusCreated, order)
	return nil
}

// cancelOrder responds with the order itself, and names it in Content-Location
// (RFC 9110 §8.7).
func (a *api) cancelOrder(w http.ResponseWriter, r *http.Request, user string) error {
	order, err := a.orders.Cancel(user, r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Location", orderPath(order))
	writeJSON(w, http.StatusOK, order)
	return nil
}

func orderPath(order Order) string { return "/v1/orders/" + order.ID }
