package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecommendationsTakeThinkTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice := visit(t, newShop(), "alice")
		start := time.Now()
		res := alice.do("GET", "/v1/recommendations", "")
		requireStatus(t, res, http.StatusOK)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("they took %s", took)
		}
		list := decode[[]Recommendation](t, res)
		if len(list) != recommendations || list[0].Reason == "" {
			t.Errorf("they are %+v", list)
		}
	})
}

func TestEachRecommendationIsSentAsSoonAsItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop()
		alice := visit(t, shop, "alice")
		for second := range recommendations {
			body := leaveAfter(t, alice, time.Duration(second)*time.Second+time.Millisecond)
			if got := strings.Count(body, "petId"); got != second {
				t.Errorf("after %d s there were %d: %s", second, got, body)
			}
		}
	})
}

// leaveAfter asks for recommendations, leaves, and returns the bytes until then.
func leaveAfter(t *testing.T, user *visitor, patience time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/recommendations", nil)
	req.AddCookie(user.cookie)
	res := httptest.NewRecorder()
	start := time.Now()
	user.shop.ServeHTTP(res, req)
	if took := time.Since(start); took != patience {
		t.Errorf("the response ended after %s, its client left after %s", took, patience)
	}
	return res.Body.String()
}

func TestRecommendationsFollowTheInventory(t *testing.T) {
	pets := func() []Pet { return NewInventory().Pets() }
	before := recommendationsFor("alice", pets())
	if again := recommendationsFor("alice", pets()); !reflect.DeepEqual(before, again) {
		t.Errorf("the same inventory gave %v, then %v", before, again)
	}

	soldOut := pets()
	soldOut[before[0].PetID-1].Stock = 0
	for _, pet := range recommendationsFor("alice", soldOut) {
		if pet.PetID == before[0].PetID {
			t.Error("it recommends a pet that is out of stock")
		}
	}
}

func TestEmptyShopRecommendsNothing(t *testing.T) {
	if got := recommendationsFor("alice", nil); got == nil || len(got) != 0 {
		t.Errorf("got %#v, want an empty slice", got)
	}
}

func TestEmptyShopSendsAnEmptyArray(t *testing.T) {
	shop := newShop()
	for i := range shop.inventory.pets {
		shop.inventory.pets[i].Stock = 0
	}
	res := visit(t, shop, "alice").do("GET", "/v1/recommendations", "")
	if got := res.Body.String(); got != "[]\n" {
		t.Errorf("it sent %q", got)
	}
}
