package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"time"
)

// recommendations limits the number of recommended pets.
const recommendations = 3

// Recommendation is a pet with the reason to recommend it.
type Recommendation struct {
	PetID  int    `json:"petId"`
	Name   string `json:"name"`
	Emoji  string `json:"emoji"`
	Price  Cents  `json:"price"`
	Reason string `json:"reason"`
}

// recommend sends a JSON array, and each element as soon as a slow model would have
// it. A client that reads the response whole waits for all of them. It ignores errors
// of the connection.
func (a *api) recommend(w http.ResponseWriter, r *http.Request, user string) error {
	list := recommendationsFor(user, a.inventory.Pets())
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "[")
	for i, pet := range list {
		if err := pause(r.Context(), a.think/recommendations); err != nil {
			return nil // the client has left
		}
		if i > 0 {
			_, _ = io.WriteString(w, ",")
		}
		_ = json.NewEncoder(w).Encode(pet)
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.WriteString(w, "]\n")
	return nil
}

// pause waits, and returns early with ctx's error when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// recommendationsFor returns the most appealing pets in stock. The result depends
// only on its arguments.
func recommendationsFor(user string, pets []Pet) []Recommendation {
	inStock := slices.DeleteFunc(pets, func(pet Pet) bool { return pet.Stock == 0 })
	slices.SortStableFunc(inStock, func(a, b Pet) int {
		return cmp.Compare(appeal(user, b), appeal(user, a))
	})
	list := make([]Recommendation, 0, recommendations)
	for _, pet := range inStock[:min(recommendations, len(inStock))] {
		list = append(list, Recommendation{pet.ID, pet.Name, pet.Emoji, pet.Price, reason(user, pet)})
	}
	return list
}

// appeal returns a pet's score; reason explains it.
func appeal(user string, pet Pet) int {
	score := taste(user, pet.Kind)
	if bargain(pet) {
		score += 60
	}
	if pet.Stock <= 2 {
		score += 30
	}
	return score
}

func reason(user string, pet Pet) string {
	switch {
	case bargain(pet):
		return "well below the usual price"
	case pet.Stock == 1:
		return "the last one in stock"
	case pet.Stock == 2:
		return "only two left"
	default:
		return fmt.Sprintf("%s and a %s get along well", user, pet.Kind)
	}
}

func bargain(pet Pet) bool { return pet.Price < pet.usual*9/10 }

// taste returns how much a user likes a kind of pet, 0 to 99. A hash replaces the
// data of a real shop.
func taste(user, kind string) int {
	hash := fnv.New32a()
	_, _ = fmt.Fprint(hash, user, "/", kind)
	return int(hash.Sum32() % 100)
}
