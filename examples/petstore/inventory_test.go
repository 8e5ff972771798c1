package main

import (
	"context"
	"net/http"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnchangedInventoryGets304(t *testing.T) {
	anonymous := visit(t, newShop(), "")
	first := anonymous.do("GET", "/v1/inventory", "")
	requireStatus(t, first, http.StatusOK)
	if got := first.Header().Get("Cache-Control"); got != "no-cache" {
		t.Errorf("Cache-Control is %q", got)
	}

	tag := first.Header().Get("ETag")
	second := anonymous.do("GET", "/v1/inventory", "", "If-None-Match", tag)
	requireStatus(t, second, http.StatusNotModified)
	if second.Body.Len() > 0 {
		t.Errorf("a 304 has the body %s", second.Body)
	}

	anonymous.do("PATCH", "/v1/inventory/1", `{"stock":99}`)
	third := anonymous.do("GET", "/v1/inventory", "", "If-None-Match", tag)
	requireStatus(t, third, http.StatusOK)
}

func TestPatchChangesOnlyNamedFields(t *testing.T) {
	anonymous := visit(t, newShop(), "")
	requireStatus(t, anonymous.do("PATCH", "/v1/inventory/1", `{"stock":42}`), http.StatusOK)
	res := anonymous.do("PATCH", "/v1/inventory/1", `{"price":"99.90"}`)
	requireStatus(t, res, http.StatusOK)
	if pet := decode[Pet](t, res); pet.Stock != 42 || pet.Price != 99_90 || pet.Name != "Biscuit" {
		t.Errorf("pet is %+v", pet)
	}
}

func TestInvalidPatchIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		path, body string
		status     int
	}{
		"nothing":         {"/v1/inventory/1", `{}`, http.StatusBadRequest},
		"negative stock":  {"/v1/inventory/1", `{"stock":-1}`, http.StatusBadRequest},
		"too large stock": {"/v1/inventory/1", `{"stock":1000}`, http.StatusBadRequest},
		"fractional":      {"/v1/inventory/1", `{"stock":1.5}`, http.StatusBadRequest},
		"price as number": {"/v1/inventory/1", `{"price":12.5}`, http.StatusBadRequest},
		"price of three":  {"/v1/inventory/1", `{"price":"12.505"}`, http.StatusBadRequest},
		"negative price":  {"/v1/inventory/1", `{"price":"-1.00"}`, http.StatusBadRequest},
		"free":            {"/v1/inventory/1", `{"price":"0.00"}`, http.StatusBadRequest},
		"the name":        {"/v1/inventory/1", `{"name":"Rex"}`, http.StatusBadRequest},
		"unknown pet":     {"/v1/inventory/99", `{"stock":1}`, http.StatusNotFound},
		"no number":       {"/v1/inventory/dog", `{"stock":1}`, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			requireStatus(t, visit(t, newShop(), "").do("PATCH", test.path, test.body), test.status)
		})
	}
}

func TestTradeChangesInventoryOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		inventory := NewInventory()
		before := inventory.Pets()
		go inventory.Trade(ctx, 4*time.Second)

		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		if !reflect.DeepEqual(before, inventory.Pets()) {
			t.Error("it changed too early")
		}
		time.Sleep(4*time.Second + 1)
		synctest.Wait()
		if reflect.DeepEqual(before, inventory.Pets()) {
			t.Error("it did not change")
		}
		cancel()
	})
}

func TestTradeKeepsStockAndPriceInBounds(t *testing.T) {
	inventory := NewInventory()
	for range 10_000 {
		inventory.tradeOnce()
		for _, pet := range inventory.Pets() {
			if pet.Stock < 0 || pet.Stock > 20 || pet.Price < pet.usual/2 || pet.Price > pet.usual*3/2 {
				t.Fatalf("pet is %+v", pet)
			}
		}
	}
}
