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

// maxSessions bounds what is kept in memory; the oldest login is forgotten.
const maxSessions = 1000

var (
	errNotLoggedIn = &problem{http.StatusUnauthorized, "not logged in"}
	errBadUser     = &problem{http.StatusBadRequest, "user must be 1 to 20 letters, a to z"}
)

var userSyntax = regexp.MustCompile(`^[a-z]{1,20}$`)

// Sessions remembers who is logged in, by the token in their cookie. Its methods
// may be called concurrently.
type Sessions struct {
	mu     sync.Mutex
	users  map[string]string
	tokens []string // oldest first
}

// NewSessions makes a shop that nobody is logged in to.
func NewSessions() *Sessions {
	return &Sessions{users: make(map[string]string)}
}

// Open logs a user in and returns the token that proves it.
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

// Close makes a token worthless; one that is so already is no error.
func (s *Sessions) Close(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(token)
}

func (s *Sessions) closeLocked(token string) {
	delete(s.users, token)
	s.tokens = slices.DeleteFunc(s.tokens, func(other string) bool { return other == token })
}

// User returns whose token it is.
func (s *Sessions) User(token string) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, ok = s.users[token]
	return user, ok
}

// sessionToken returns the token that a request carries, or "", which is nobody's.
func sessionToken(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// login takes anyone's word for who they are: this is a demo, there are no
// passwords. A login replaces the one that the client had.
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

// userOf reads a login, be it JSON or a form.
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

// setSessionCookie hands out a token, or takes it back with a negative maxAge.
// The cookie is not Secure: the demo is also there on plain http.
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

// me names the user in a header too, for proxies that ask who is there.
func (a *api) me(w http.ResponseWriter, _ *http.Request, user string) error {
	w.Header().Set("X-User-Id", user)
	writeJSON(w, http.StatusOK, map[string]string{"user": user})
	return nil
}
