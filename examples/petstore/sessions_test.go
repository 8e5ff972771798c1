package main

import (
	"net/http"
	"strings"
	"testing"
)

func TestLoginAcceptsJSONAndForm(t *testing.T) {
	for contentType, body := range map[string]string{
		"application/json; charset=utf-8":   `{"user":"alice"}`,
		"application/x-www-form-urlencoded": "user=alice",
	} {
		t.Run(contentType, func(t *testing.T) {
			res := visit(t, newShop(), "").do("POST", "/v1/login", body, "Content-Type", contentType)
			requireStatus(t, res, http.StatusOK)
			if got := strings.TrimSpace(res.Body.String()); got != `{"user":"alice"}` {
				t.Errorf("body is %s", got)
			}
		})
	}
}

func TestSessionCookieIsHttpOnlyAndSameSite(t *testing.T) {
	cookie := visit(t, newShop(), "alice").cookie
	if cookie.Name != "session" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie is %v", cookie)
	}
}

func TestUserNamesAreLowercaseLetters(t *testing.T) {
	for _, name := range []string{"", "Alice", "alice2", "a/b", "é", strings.Repeat("a", 21)} {
		t.Run(name, func(t *testing.T) {
			res := visit(t, newShop(), "").do("POST", "/v1/login", "user="+name,
				"Content-Type", "application/x-www-form-urlencoded")
			requireStatus(t, res, http.StatusBadRequest)
		})
	}
}

func TestMeNamesUserInHeaderAndBody(t *testing.T) {
	res := visit(t, newShop(), "alice").do("GET", "/v1/me", "")
	requireStatus(t, res, http.StatusOK)
	if got := res.Header().Get("X-User-Id"); got != "alice" {
		t.Errorf("X-User-Id is %q", got)
	}
	if got := decode[map[string]string](t, res)["user"]; got != "alice" {
		t.Errorf("user is %q", got)
	}
}

func TestLogoutEndsSession(t *testing.T) {
	alice := visit(t, newShop(), "alice")
	res := alice.do("POST", "/v1/logout", "")
	requireStatus(t, res, http.StatusNoContent)
	if got := res.Result().Cookies()[0]; got.MaxAge >= 0 {
		t.Errorf("the cookie is not deleted: %v", got)
	}
	requireStatus(t, alice.do("GET", "/v1/me", ""), http.StatusUnauthorized)
}

func TestLoginReplacesEarlierLogin(t *testing.T) {
	shop := newShop()
	alice := visit(t, shop, "alice")
	alice.do("POST", "/v1/login", `{"user":"bob"}`, "Content-Type", "application/json")
	requireStatus(t, alice.do("GET", "/v1/me", ""), http.StatusUnauthorized)
}

func TestNewSessionReplacesOldestOne(t *testing.T) {
	sessions := NewSessions()
	oldest, second := sessions.Open("alice"), sessions.Open("bob")
	for range maxSessions - 1 {
		sessions.Open("carol")
	}
	if _, ok := sessions.User(oldest); ok {
		t.Error("the oldest session is still there")
	}
	if user, _ := sessions.User(second); user != "bob" {
		t.Errorf("the second session is %q's", user)
	}
}
