package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
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
		list := decode[map[string][]Recommendation](t, res)["recommendations"]
		if len(list) != recommendations || list[0].Reason == "" {
			t.Errorf("they are %+v", list)
		}
	})
}

func TestRecommendationsStopWhenClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop()
		alice := visit(t, shop, "alice")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/recommendations", nil)
		req.AddCookie(alice.cookie)
		res := httptest.NewRecorder()

		start := time.Now()
		alice.shop.ServeHTTP(res, req)
		if took := time.Since(start); took != time.Second || res.Body.Len() > 0 {
			t.Errorf("it took %s and wrote %q", took, res.Body)
		}
	})
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
