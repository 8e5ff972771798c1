package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// maxStock limits the stock that a client may set.
const maxStock = 999

var (
	errNoSuchPet  = &problem{http.StatusNotFound, "no such pet"}
	errOutOfStock = &problem{http.StatusConflict, "out of stock"}
)

// Pet is one line of the inventory.
type Pet struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Emoji string `json:"emoji"`
	Stock int    `json:"stock"`
	Price Cents  `json:"price"`

	usual Cents // the price drifts around it
}

// Inventory holds the shop's pets and their prices. It is safe for concurrent use.
type Inventory struct {
	mu   sync.Mutex
	pets []Pet
}

// NewInventory returns the inventory of a new shop.
func NewInventory() *Inventory {
	pets := []Pet{
		{ID: 1, Name: "Biscuit", Kind: "dog", Emoji: "🐕", Stock: 5, Price: 120_00},
		{ID: 2, Name: "Miso", Kind: "cat", Emoji: "🐈", Stock: 7, Price: 85_00},
		{ID: 3, Name: "Pepper", Kind: "rabbit", Emoji: "🐇", Stock: 9, Price: 32_50},
		{ID: 4, Name: "Kiwi", Kind: "parrot", Emoji: "🦜", Stock: 3, Price: 210_00},
		{ID: 5, Name: "Bubbles", Kind: "fish", Emoji: "🐠", Stock: 12, Price: 12_50},
		{ID: 6, Name: "Sheldon", Kind: "turtle", Emoji: "🐢", Stock: 4, Price: 64_00},
		{ID: 7, Name: "Hazel", Kind: "hamster", Emoji: "🐹", Stock: 10, Price: 18_90},
		{ID: 8, Name: "Spike", Kind: "hedgehog", Emoji: "🦔", Stock: 2, Price: 47_00},
	}
	for i := range pets {
		pets[i].usual = pets[i].Price
	}
	return &Inventory{pets: pets}
}

// Pets returns a copy of the inventory, in a fixed order.
func (v *Inventory) Pets() []Pet {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.pets)
}

// Take takes n of a pet out of stock, or none if there are fewer.
func (v *Inventory) Take(id, n int) (Pet, error) {
	return v.edit(id, func(pet *Pet) error {
		if pet.Stock < n {
			return errOutOfStock
		}
		pet.Stock -= n
		return nil
	})
}

// PutBack undoes a Take, so the pet exists.
func (v *Inventory) PutBack(id, n int) {
	_, _ = v.edit(id, func(pet *Pet) error {
		pet.Stock += n
		return nil
	})
}

// edit applies change to one pet and returns the changed pet.
func (v *Inventory) edit(id int, change func(*Pet) error) (Pet, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.pets, func(pet Pet) bool { return pet.ID == id })
	if i < 0 {
		return Pet{}, errNoSuchPet
	}
	if err := change(&v.pets[i]); err != nil {
		return Pet{}, err
	}
	return v.pets[i], nil
}

// Trade simulates changes that don't pass through the API, such as a nightly
// import. It changes one pet about once per interval, until ctx ends.
func (v *Inventory) Trade(ctx context.Context, interval time.Duration) {
	for pause(ctx, interval/2+rand.N(interval)) == nil {
		v.tradeOnce()
	}
}

// tradeOnce sells, restocks or reprices one pet.
func (v *Inventory) tradeOnce() {
	v.mu.Lock()
	defer v.mu.Unlock()
	pet := &v.pets[rand.IntN(len(v.pets))]
	switch {
	case rand.IntN(2) == 0:
		pet.Price = pet.driftedPrice()
	case pet.Stock == 0:
		pet.Stock = 2 + rand.IntN(8)
	default:
		pet.Stock--
	}
}

// driftedPrice returns the price moved by 1 to 10 % of the usual price, and towards
// it if they differ by more than a quarter.
func (p *Pet) driftedPrice() Cents {
	step := max(1, p.usual*Cents(1+rand.IntN(10))/100)
	switch {
	case p.Price > p.usual*5/4:
		return p.Price - step
	case p.Price < p.usual*3/4 || rand.IntN(2) == 0:
		return p.Price + step
	default:
		return p.Price - step
	}
}

// listInventory sends an ETag, so that repeated requests cost little.
func (a *api) listInventory(w http.ResponseWriter, r *http.Request) error {
	body, err := json.Marshal(map[string][]Pet{"pets": a.inventory.Pets()})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", fmt.Sprintf(`"%x"`, sum[:8]))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	return nil
}

// petChange is the body of PATCH. Absent fields stay unchanged.
type petChange struct {
	Stock *int   `json:"stock"`
	Price *Cents `json:"price"`
}

func (c petChange) validate() error {
	switch {
	case c.Stock == nil && c.Price == nil:
		return badRequest("nothing to change: give stock or price")
	case c.Stock != nil && (*c.Stock < 0 || *c.Stock > maxStock):
		return badRequest("stock must be between 0 and %d", maxStock)
	case c.Price != nil && *c.Price == 0:
		return badRequest("price must be above zero")
	}
	return nil
}

func (c petChange) apply(pet *Pet) error {
	if c.Stock != nil {
		pet.Stock = *c.Stock
	}
	if c.Price != nil {
		pet.Price = *c.Price
	}
	return nil
}

// changePet needs no login, so that readers of the demo can use it with curl.
func (a *api) changePet(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return errNoSuchPet
	}
	var change petChange
	if err := readJSON(r, &change); err != nil {
		return err
	}
	if err := change.validate(); err != nil {
		return err
	}
	pet, err := a.inventory.edit(id, change.apply)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, pet)
	return nil
}
