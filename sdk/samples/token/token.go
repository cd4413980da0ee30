// Go, without a module: go run token.go APP USER, with the secret in PARLANCE_APP_SECRET.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// issueToken makes a token that lets user log in for as long as life.
func issueToken(secret, app, user string, life time.Duration) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"app": app,
		"sub": user,
		"iat": now.Unix(),
		"exp": now.Add(life).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil)), nil
}

func main() {
	token, err := issueToken(os.Getenv("PARLANCE_APP_SECRET"), os.Args[1], os.Args[2], time.Hour)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(token)
}
