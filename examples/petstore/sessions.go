package main

import (
	"crypto/rand"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"sync"
)

// sessionCookie is the name of the cookie that a login sets.
const sessionCookie = "session"

// maxSessions limits the sessions in memory. A new one replaces the oldest.
const maxSessions = 1000

var (
	errNotLoggedIn = &problem{http.StatusUnauthorized, "not logged in"}
	errBadUser     = &problem{http.StatusBadRequest, "user must be 1 to 20 letters, a to z"}
)

var userSyntax = regexp.MustCompile(`^[a-z]{1,20}$`)

// Sessions maps the tokens of session cookies to users. It is safe for concurrent
// use.
type Sessions struct {
	mu     sync.Mutex
	users  map[string]string
	tokens []string // oldest first
}

// NewSessions returns an empty set of sessions.
func NewSessions() *Sessions {
	return &Sessions{users: make(map[string]string)}
}

// Open logs a user in and returns the session's token.
func (s *Sessions) Open(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= maxSessions {
		s.closeLocked(s.tokens[0])
	}
	token := rand.Text()
	s.users[token] = user
	s.tokens = append(s.tokens, token)
	return token
}

// Close ends a token's session, if there is one.
func (s *Sessions) Close(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(token)
}

func (s *Sessions) closeLocked(token string) {
	delete(s.users, token)
	s.tokens = slices.DeleteFunc(s.tokens, func(other string) bool { return other == token })
}

// User returns the user of a token.
func (s *Sessions) User(token string) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, ok = s.users[token]
	return user, ok
}

// sessionToken returns the request's session token, or "".
func sessionToken(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// login logs any user in without a password: this is a demo. It replaces an earlier
// login of the client.
func (a *api) login(w http.ResponseWriter, r *http.Request) error {
	user, err := userOf(r)
	if err != nil {
		return err
	}
	a.sessions.Close(sessionToken(r))
	setSessionCookie(w, a.sessions.Open(user), 0)
	writeJSON(w, http.StatusOK, map[string]string{"user": user})
	return nil
}

// userOf reads the user from a login, which is JSON or a form.
func userOf(r *http.Request) (string, error) {
	var login struct {
		User string `json:"user"`
	}
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType == "application/json" {
		if err := readJSON(r, &login); err != nil {
			return "", err
		}
	} else {
		if err := r.ParseForm(); err != nil {
			return "", bodyProblem(err)
		}
		login.User = r.PostForm.Get("user")
	}
	if !userSyntax.MatchString(login.User) {
		return "", errBadUser
	}
	return login.User, nil
}

func (a *api) logout(w http.ResponseWriter, r *http.Request) error {
	a.sessions.Close(sessionToken(r))
	setSessionCookie(w, "", -1)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setSessionCookie sets the cookie, or deletes it if maxAge is negative. The cookie
// is not Secure, because the demo also uses plain http.
func setSessionCookie(w http.ResponseWriter, token string, maxAge int) {
	w.Header().Set("Cache-Control", "no-store")
	http.SetCookie(w, &http.Cookie{
		Name:     sessionCookie,
		Value:    token,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	})
}

// me also names the user in a header, for forward_auth.
func (a *api) me(w http.ResponseWriter, _ *http.Request, user string) error {
	w.Header().Set("X-User-Id", user)
	writeJSON(w, http.StatusOK, map[string]string{"user": user})
	return nil
}
