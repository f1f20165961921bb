// Package webhooks verifies webhooks by Standard Webhooks 1.0.0. Go 1.19 or newer; the standard library alone.
package webhooks

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute
const shortest = 24 // bytes of a secret: with an empty one anybody could sign

// Verify returns an error unless the request was signed with one of your keys, within the last five minutes.
// keys are secrets (whsec_…) or public keys (whpk_…), body is the bytes that came.
func Verify(keys []string, header http.Header, body []byte, now time.Time) error {
	stamp := header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return errors.New("webhook-timestamp is missing, or too far from now")
	}
	content := append([]byte(header.Get("webhook-id")+"."+stamp+"."), body...)
	for _, key := range keys {
		for _, signature := range strings.Split(header.Get("webhook-signature"), " ") {
			if fits(key, signature, content) {
				return nil
			}
		}
	}
	return errors.New("no signature in webhook-signature fits")
}

func fits(key, signature string, content []byte) bool {
	scheme, text, _ := strings.Cut(signature, ",")
	switch {
	case scheme == "v1" && strings.HasPrefix(key, "whsec_"):
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
		mac := hmac.New(sha256.New, secret)
		mac.Write(content)
		expected := base64.StdEncoding.EncodeToString(mac.Sum(nil))
		return err == nil && len(secret) >= shortest && hmac.Equal([]byte(text), []byte(expected))
	case scheme == "v1a" && strings.HasPrefix(key, "whpk_"):
		public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whpk_"))
		given, wrong := base64.StdEncoding.DecodeString(text)
		return err == nil && wrong == nil && len(public) == ed25519.PublicKeySize &&
			ed25519.Verify(public, content, given)
	}
	return false
}
