package main

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestFrozenShopRespondsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice := visit(t, newShop(), "alice")
		requireStatus(t, alice.do("POST", "/v1/freeze", `{"seconds":20}`), http.StatusNoContent)
		start := time.Now()
		requireStatus(t, alice.do("GET", "/v1/inventory", ""), http.StatusOK)
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestFreezeIsLimited(t *testing.T) {
	alice := visit(t, newShop(), "alice")
	for _, body := range []string{`{"seconds":61}`, `{"seconds":-1}`, `{}x`} {
		requireStatus(t, alice.do("POST", "/v1/freeze", body), http.StatusBadRequest)
	}
}
