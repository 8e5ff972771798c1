package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newShop returns a petstore in which only orders change by themselves.
func newShop() *api {
	inventory := NewInventory()
	return &api{
		inventory: inventory,
		orders:    NewOrders(inventory, time.Minute, func(Notification) {}),
		sessions:  NewSessions(),
		requests:  NewRequests(),
		think:     3 * time.Second,
	}
}

// visitor is a client of a petstore, with a cookie after a login.
type visitor struct {
	t      *testing.T
	shop   http.Handler
	cookie *http.Cookie
}

// visit returns a client that is logged in as user, or not logged in if user is
// empty.
func visit(t *testing.T, shop *api, user string) *visitor {
	t.Helper()
	v := &visitor{t: t, shop: shop.routes()}
	if user == "" {
		return v
	}
	res := v.do("POST", "/v1/login", "user="+user, "Content-Type", "application/x-www-form-urlencoded")
	requireStatus(t, res, http.StatusOK)
	v.cookie = res.Result().Cookies()[0]
	return v
}

// do makes a request. header alternates names and values.
func (v *visitor) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	v.t.Helper()
	req := httptest.NewRequestWithContext(v.t.Context(), method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if v.cookie != nil {
		req.AddCookie(v.cookie)
	}
	res := httptest.NewRecorder()
	v.shop.ServeHTTP(res, req)
	return res
}

// order places an order of one pet and returns it.
func (v *visitor) order(petID string) Order {
	v.t.Helper()
	res := v.do("POST", "/v1/orders", `{"petId":`+petID+`,"quantity":1}`)
	requireStatus(v.t, res, http.StatusCreated)
	return decode[Order](v.t, res)
}

func requireStatus(t *testing.T, res *httptest.ResponseRecorder, want int) {
	t.Helper()
	if res.Code != want {
		t.Fatalf("status is %d, want %d; body: %s", res.Code, want, res.Body)
	}
}

func decode[T any](t *testing.T, res *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(res.Body.Bytes(), &v); err != nil {
		t.Fatalf("decoding %s: %v", res.Body, err)
	}
	return v
}

func TestPrivateRoutesRequireLogin(t *testing.T) {
	anonymous := visit(t, newShop(), "")
	for _, path := range []string{"/v1/me", "/v1/orders", "/v1/orders/o-1", "/v1/recommendations"} {
		t.Run(path, func(t *testing.T) {
			requireStatus(t, anonymous.do("GET", path, ""), http.StatusUnauthorized)
		})
	}
}

func TestRefusalsAreJSON(t *testing.T) {
	alice := visit(t, newShop(), "alice")
	for name, test := range map[string]struct {
		method, path, body string
		status             int
	}{
		"unknown path":       {"GET", "/v1/cats", "", http.StatusNotFound},
		"wrong method":       {"DELETE", "/v1/inventory", "", http.StatusMethodNotAllowed},
		"no JSON":            {"POST", "/v1/orders", "petId=1", http.StatusBadRequest},
		"two JSON values":    {"POST", "/v1/orders", `{"petId":1,"quantity":1} {}`, http.StatusBadRequest},
		"misspelt field":     {"POST", "/v1/orders", `{"pet":1,"quantity":1}`, http.StatusBadRequest},
		"no quantity":        {"POST", "/v1/orders", `{"petId":1}`, http.StatusBadRequest},
		"too large quantity": {"POST", "/v1/orders", `{"petId":1,"quantity":10}`, http.StatusBadRequest},
		"unknown pet":        {"POST", "/v1/orders", `{"petId":99,"quantity":1}`, http.StatusNotFound},
		"too large body":     {"POST", "/v1/orders", strings.Repeat(" ", maxBody+1), http.StatusRequestEntityTooLarge},
		"unknown order":      {"POST", "/v1/orders/o-99/cancel", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			res := alice.do(test.method, test.path, test.body)
			requireStatus(t, res, test.status)
			if got := res.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type is %q", got)
			}
			if decode[map[string]string](t, res)["error"] == "" {
				t.Errorf("no error in %s", res.Body)
			}
		})
	}
}

func TestWrongMethodGetsAllowHeader(t *testing.T) {
	res := visit(t, newShop(), "").do("DELETE", "/v1/inventory", "")
	if got := res.Header().Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow is %q", got)
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	alice := visit(t, newShop(), "alice")
	alice.do("GET", "/v1/inventory", "")
	alice.do("GET", "/v1/inventory", "")
	alice.do("GET", "/v1/orders/o-1", "")
	alice.do("GET", "/v1/orders/o-2", "")
	alice.do("GET", "/unknown", "")

	counts := decode[map[string]int](t, alice.do("GET", "/v1/requests", ""))
	for route, want := range map[string]int{
		"POST /v1/login":      1,
		"GET /v1/inventory":   2,
		"GET /v1/orders/{id}": 2,
		"GET /v1/requests":    1,
	} {
		if counts[route] != want {
			t.Errorf("%s was counted %d times, want %d", route, counts[route], want)
		}
	}
	if len(counts) != 4 {
		t.Errorf("counted other routes: %v", counts)
	}
}
